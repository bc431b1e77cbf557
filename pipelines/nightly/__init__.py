"""A night: what is new or changed since the last good one is scored as a run of its own, once, under one lock.

lock -> unfinished night? resume it -> list the input -> compare with the last good night -> night is opened
     -> run <name>-<date> -> list again -> shards of the night -> refresh, summary (the receipt) -> retention
"""

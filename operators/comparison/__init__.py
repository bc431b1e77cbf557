"""How two corpora differ: n-gram divergences, depth of their documents' states, lengths and compression.

    documents -> what each holds (`grams`, `states`, numbers) -> a statistic of two sets of them -> `resampling`

Documents are the units that are drawn, relabelled and left out, never words or tokens: those of one document depend on
each other, and a test that takes them for independent finds a difference between any two corpora.
"""

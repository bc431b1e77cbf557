"""Benchmarks: a job plus a record. Interleaved rounds, medians, ratios; memory and agreement stand beside the speed."""

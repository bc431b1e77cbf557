"""Submission: a job file sent to a Ray cluster, and what becomes of it there."""

"""`assay scores` and `assay frequencies`: flags and help."""

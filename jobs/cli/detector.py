"""`assay detector ...`: flags and help."""

"""`assay evaluate`: flags and help."""

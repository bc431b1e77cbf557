"""`assay nightly`: flags and help."""

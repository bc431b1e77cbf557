"""`assay dataset-inference`: flags and help."""

"""`assay submit` and `assay job`: flags and help."""

"""`assay check` and `assay run`: flags and help."""

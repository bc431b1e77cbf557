"""`assay status`: flags and help."""

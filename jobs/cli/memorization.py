"""`assay memorization`: its flags and help."""

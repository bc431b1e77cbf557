"""`assay contamination`: its flags and help."""

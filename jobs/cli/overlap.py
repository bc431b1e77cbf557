"""`assay overlap`: its flags and help."""

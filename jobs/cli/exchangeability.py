"""`assay exchangeability`: its flags and help."""

"""`assay compare`."""

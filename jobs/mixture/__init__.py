"""`assay mixture`."""

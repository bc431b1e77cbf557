"""`assay tokenizers`."""

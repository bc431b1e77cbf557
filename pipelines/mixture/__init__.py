"""Reads candidate corpora for `assay mixture tokenizer`."""

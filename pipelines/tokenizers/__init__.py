"""Reads a corpus for `assay tokenizers`."""

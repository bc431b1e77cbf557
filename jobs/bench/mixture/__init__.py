"""`assay bench mixture`: text of this machine and made-up languages, tokenizers of known mixtures, the report."""

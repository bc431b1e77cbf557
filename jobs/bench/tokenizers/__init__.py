"""The benchmark of `assay tokenizers`: its texts, bare encoding beside it, and what it prints."""

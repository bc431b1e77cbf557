"""A tokenizer's training mixture from its merges: pair counts while merging, and a linear program."""

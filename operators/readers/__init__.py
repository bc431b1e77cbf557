"""One reader a format: an open file in, one `Record` per input record out."""

"""`assay nightly`: what changed since the last good night is scored, measured and summed up."""

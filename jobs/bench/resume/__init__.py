"""`assay bench resume`: what a run of a million shards asks of its driver, and what is done again after a kill."""

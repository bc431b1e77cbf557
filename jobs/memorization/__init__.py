"""`assay memorization`: what is asked for, the search, what the run lacks for it, and the report."""

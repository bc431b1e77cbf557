"""`assay overlap`: flags -> run -> report."""

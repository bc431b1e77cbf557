"""`assay bench overlap`: made-up text with planted n-grams, its truth, the tools that search it, the report."""

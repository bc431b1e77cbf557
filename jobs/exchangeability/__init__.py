"""`assay exchangeability`: what is asked for, the run of the orders, what is found of it, and the report."""

"""Domain fit, mixture weights by likelihood, re-weighting and perplexity correlations, on Arrow tables and numpy."""

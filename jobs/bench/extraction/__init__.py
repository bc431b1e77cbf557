"""`assay bench extraction`: windows of strict runs, what a model writes behind them, both compared, the report."""

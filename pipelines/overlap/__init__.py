"""A benchmark compared with a corpus: job -> plan -> run, which makes items, index, receipts of units, and tables."""

"""Memorisation of a run: windows whose suffix can be extracted, memorised spans, and how sure their rates are."""

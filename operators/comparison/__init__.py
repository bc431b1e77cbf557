"""How two corpora differ: divergences, depth, profiles, with their tests."""

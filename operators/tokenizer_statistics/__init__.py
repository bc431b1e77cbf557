"""How tokenizers cut text: counts of documents, and the statistics made of them."""

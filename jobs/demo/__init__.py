"""What `assay demo` stands on: text whose membership is known, and small models trained on half of it."""

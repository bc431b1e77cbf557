"""What `assay demo` stands on: real text whose membership is known, and a small model trained on half of it."""

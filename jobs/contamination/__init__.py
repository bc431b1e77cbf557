"""`assay contamination`: request -> sets -> gather -> run -> report."""

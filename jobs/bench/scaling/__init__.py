"""`assay bench scaling`: what two actors do against one, and the Ray engine against a plain loop."""

"""Figures: SVG or PNG, the same every time."""

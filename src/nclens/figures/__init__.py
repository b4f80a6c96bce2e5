"""Figures: `catalogue` lists them; each paper has a file of the functions that draw its own."""

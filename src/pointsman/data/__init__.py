"""Routing data: merging, drawing and checking datasets."""

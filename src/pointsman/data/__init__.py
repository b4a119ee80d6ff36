"""Routing data: generating, splitting and checking datasets."""

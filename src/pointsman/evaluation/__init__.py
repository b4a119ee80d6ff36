"""Evaluation: accuracy, the worth of routing, plots and reports."""

"""Is it right, and does it pay: evaluation, worth of routing, plots and reports."""

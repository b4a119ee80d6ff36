"""From features to a decision: feature store, head, scores, calibration, router, training."""

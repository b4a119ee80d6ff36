"""The pocket model: weights, and the demo's screenshots. ``runs/pocket.sh`` made them."""

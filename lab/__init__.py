"""The laboratory: draws the demo screens and trains the pocket. Not part of the package."""

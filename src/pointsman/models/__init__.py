"""Models that read prompts: checkpoints, the base and its encoding, text encoders, features."""

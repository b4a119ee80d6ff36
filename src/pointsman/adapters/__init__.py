"""One LoRA: its files, loading, training, sealing and checks."""

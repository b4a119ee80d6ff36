"""Many LoRAs, one model: the engine, its scheduler, its LoRA stack and its caches."""

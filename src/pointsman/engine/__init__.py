"""Multi-LoRA serving: the engine, its scheduler, its LoRA stack and its caches."""

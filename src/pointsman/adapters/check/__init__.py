"""The check of one adapter."""

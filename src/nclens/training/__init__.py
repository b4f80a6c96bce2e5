"""The training loop, its losses, statistics and runtime settings."""

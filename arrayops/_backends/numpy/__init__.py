"""The CPU backend: NumPy on blocks that stay in cache, shared among a few threads."""

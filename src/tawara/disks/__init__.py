"""A machine's devices: their files, identity, health and load, and the thread pools for blocking work."""

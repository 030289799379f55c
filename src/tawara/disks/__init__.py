"""A machine's devices: files on them, their identity, and the threads that do the blocking work."""

"""Pure values and decisions: no I/O, no clock; what to do, never the doing of it."""

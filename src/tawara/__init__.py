"""Tawara: a few ordinary machines, turned into a small data centre."""

__version__ = "0.1.0.dev0"

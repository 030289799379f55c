"""Probes of a whole cluster: a load, one fault, and what is left when both are over.

`python -m tests.probe.cluster` runs them.
"""

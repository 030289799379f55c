"""Probes of a whole cluster: a load, one fault, and a check of the result. `python -m tests.probe.cluster` runs
them."""

"""Packaged machines: a guest as a .deb and an .rpm; installing the package starts the guest."""

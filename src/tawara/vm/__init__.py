"""Packaged machines: a virtual machine as a .deb and a .rpm."""

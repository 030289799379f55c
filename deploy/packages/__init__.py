"""Builds the packages of Tawara itself."""

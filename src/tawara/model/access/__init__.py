"""Access keys: what a key may do (grants), until when, and whose it is. Values and decisions only."""

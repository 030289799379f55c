"""Rebuilds the namespace from the journals on the devices; drills, merges and backups."""

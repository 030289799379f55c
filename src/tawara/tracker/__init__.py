"""The tracker: one verb of the line protocol each, and the server that speaks it."""

"""The tracker: the server of MogileFS's line protocol, and a function for each of its verbs."""

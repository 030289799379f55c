"""Background care: small units of work, claimed by lease, that may be killed at any moment."""

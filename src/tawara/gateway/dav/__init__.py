"""WebDAV (RFC 4918) over the file store: requests, properties, locks and methods."""

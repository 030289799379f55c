"""The syntax of WebDAV (RFC 4918): XML bodies, multi-status responses, header fields. No input or output."""

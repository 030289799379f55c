"""The S3 protocol: requests, signatures, framing, XML. Values in, decisions out; no I/O, no clock."""

"""The S3 protocol's handlers: translate requests and errors, and call the store."""

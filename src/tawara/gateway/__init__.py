"""The gateway: files by domain and key over HTTP, with nginx in front to move the bytes."""

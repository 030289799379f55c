"""The Python client, and how every part of Tawara talks to storage nodes."""

"""A storage node: bytes on a machine's disks, and how they are served."""

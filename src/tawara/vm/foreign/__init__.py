"""Disk images made elsewhere as bases: inspected by libguestfs, edited offline, packaged like ours."""

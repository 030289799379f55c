"""Other people's disk images as bases: looked into by libguestfs, edited offline, packaged like ours."""

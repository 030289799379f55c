"""How components speak with storage nodes: put, get, head, the side channel, the journals on devices."""

"""The namespace put together again from the journals on the devices."""

"""The HTTP door: Python decides, nginx moves the bytes."""

"""Pure codecs between bytes and messages: no I/O, no clock."""

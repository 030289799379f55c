"""The storage node daemon: serves the files of a machine's devices over HTTP and the side channel."""

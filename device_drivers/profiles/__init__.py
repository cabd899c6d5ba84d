"""One file per protocol: bytes in, observations and writes out, no I/O."""

"""The benchmark: tidings compared with the peer and with bare drivers on the same machine. `make bench` runs it."""

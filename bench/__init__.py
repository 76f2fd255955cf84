"""The benchmark: tidings beside the peer, and beside what the machine does with bare drivers. `make bench` runs it."""

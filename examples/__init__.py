"""Programs to read and to run: each is a package of its own, started with `python -m examples.<name>`."""

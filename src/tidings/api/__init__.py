"""The face: public names, signatures and docstrings. What they mean is decided in `core`."""

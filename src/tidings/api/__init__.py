"""The face: public names, signatures and docstrings. `core` defines their behaviour."""

"""One process that runs workflows. Start reading at `engine.py`, which builds the parts in order."""

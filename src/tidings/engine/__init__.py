"""The parts of one process that runs workflows. Start reading at `engine.py`, which builds them in order."""

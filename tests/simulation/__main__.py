"""Plays simulations: `python -m tests.simulation --seed 1234`, or `--seeds 10000 [--from 0] [--jobs 2]`."""

from __future__ import annotations

import sys

from tests.simulation.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m tests.matrix`: see `command.py`."""

import sys

from tests.matrix.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A temporary directory for one run of the tests and for all its processes, removed when the run ends.

Each process that is killed, or crashes on purpose, leaves its lock file behind, as it should. In the system's temporary
directory, thousands of these files would burden all programs that scan it.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch


@contextmanager
def temporary_directory_of_its_own() -> Iterator[Path]:
    """Use a new directory for all temporary files from now on, and remove it at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="tidings-tests-", ignore_cleanup_errors=True) as directory:
        # The user who runs a PostgreSQL server must be able to reach the server's directory.
        os.chmod(directory, 0o711)
        # `tempfile` has read the variable already, and reads it only once. So set its value too.
        with patch.dict(os.environ, TMPDIR=directory), patch.object(tempfile, "tempdir", directory):
            yield Path(directory)

"""A temporary directory for one run of the tests and for all processes that it starts; removed when the run is over.

Each process that is killed, or crashes on purpose, leaves its lock file behind, as it should. Thousands of them in the
system's temporary directory would be there for every program of this machine that sweeps it.
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
        # Whoever a PostgreSQL server runs as must get through to its own directory.
        os.chmod(directory, 0o711)
        # `tempfile` has looked already, and looks only once: it needs to be told, too.
        with patch.dict(os.environ, TMPDIR=directory), patch.object(tempfile, "tempdir", directory):
            yield Path(directory)

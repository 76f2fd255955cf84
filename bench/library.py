"""The library that is measured, named by `BENCH_LIBRARY`. The programs are written once, with its public interface.

The code that runs in that library's environment (`program`, `meter`, `actor`, `size` and most of `programs`) imports
only the standard library and this module.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidings import DBOS, SendMessage, SetWorkflowID
else:
    _library = importlib.import_module(os.environ["BENCH_LIBRARY"])
    DBOS, SendMessage, SetWorkflowID = _library.DBOS, _library.SendMessage, _library.SetWorkflowID

__all__ = ["DBOS", "SendMessage", "SetWorkflowID"]

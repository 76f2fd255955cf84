"""The library under measurement: `BENCH_LIBRARY` names it. The programs are written once against its public interface.

What runs in the library's own environment (`program`, `meter`, `actor`, `size` and most of `programs`) imports the
standard library and this module, and nothing else.
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

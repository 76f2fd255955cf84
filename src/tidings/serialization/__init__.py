"""Values and errors to text, and back.

The stores keep the text; no other layer looks inside it. The default is typed JSON (`typed_json`):
plain JSON values as they are, all others marked. Three rules hold everywhere:

1. A stored value comes back exactly, with all its types, or the call that passed it refuses it.
   (Not kept: whether two parts were the same object, and the order of a set.)
2. Nothing read from the database runs code or imports a module (`shapes`). Only `PickleSerializer`
   breaks this rule, and a program must choose it explicitly.
3. A failure is a `DBOSSerializationError` that names the path inside the value.

`dump` and `load` are for values, `dump_error` and `load_error` for exceptions. `show` and `show_error`
are for people who inspect stored values: they show as text what cannot be rebuilt here. `load_awaited`
is for programs that await a workflow of another program, whose classes they may lack.
"""

from tidings.serialization.errors import dump_error, load_error, load_outcome, recorded_error
from tidings.serialization.lenient import load_awaited, show, show_error
from tidings.serialization.serializers import JSONSerializer, PickleSerializer, Serializer, dump, load
from tidings.serialization.undecoded import UndecodedValue

__all__ = [
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "UndecodedValue",
    "dump",
    "dump_error",
    "load",
    "load_awaited",
    "load_error",
    "load_outcome",
    "recorded_error",
    "show",
    "show_error",
]

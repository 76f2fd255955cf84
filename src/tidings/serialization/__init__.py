"""Values and errors to text, and back.

The text is what the stores keep; no other layer looks inside it. The default is typed JSON
(`typed_json`): plain JSON values as they are, all others marked. Three rules hold everywhere:

1. What is stored comes back exactly, type by type, or is refused at the call that passed it.
   (Not kept: which values were one object, and a set's order.)
2. Nothing read from the database runs code or imports a module (`shapes`); only
   `PickleSerializer`, which a program must choose itself, gives that up.
3. A failure is a `DBOSSerializationError` that names the path inside the value.

`dump` and `load` serve values, `dump_error` and `load_error` serve exceptions.
"""

from tidings.serialization.errors import dump_error, load_error, load_outcome, recorded_error
from tidings.serialization.serializers import JSONSerializer, PickleSerializer, Serializer, dump, load

__all__ = [
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "dump",
    "dump_error",
    "load",
    "load_error",
    "load_outcome",
    "recorded_error",
]

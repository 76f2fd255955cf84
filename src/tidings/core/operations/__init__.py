"""The durable operations, each written once, as a generator of effects.

One module per subject. What happens inside a run takes a `Slot` and is recorded; what happens in
a step or outside any workflow has no place in a history and is not. `recorded` is the frame that
all recorded operations share.
"""

"""The durable operations, each written once, as a generator of effects.

One module per subject. An operation that workflow code calls takes a `Slot` and is recorded. An
operation in a step, or outside any workflow, has no place in a history and is not recorded.
`recorded` is the frame that all recorded operations share.
"""

"""The rules of durable execution. No I/O, no threads, no event loop, no clock.

`effects` is what an operation may ask for, `history` what one run has recorded, `operations` the
operations themselves, `lifecycle` the statuses of a workflow. The drivers that perform effects are
in `engine.drive`.
"""

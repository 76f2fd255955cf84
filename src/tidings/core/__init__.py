"""The rules of durable execution. No I/O, no threads, no event loop, no clock.

`effects`: what an operation may ask for; the drivers in `engine.runs.drive` perform it. `history`: what
one run has recorded. `operations`: the operations.
"""

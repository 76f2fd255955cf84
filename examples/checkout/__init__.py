"""A shop that sells one thing, to show a workflow that waits for a message and survives being killed.

Read `workflow.py` first: the whole checkout is there. `web.py` starts it and talks to it, `shop.py` keeps
the stock and the takings, `pages.py` and `timeline.py` are what you see, and `story.py` plays a customer
and a power cut. `make demo` opens the shop.
"""

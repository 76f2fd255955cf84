"""Runs the whole suite on every platform that tidings supports, as far as it is available: `make matrix`.

A row is one platform; `rows.py` lists them. A platform that is not available here is shown with the reason, and never
left out.
"""

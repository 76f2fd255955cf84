"""The whole suite on every platform that tidings promises to run on, as far as each can be had: `make matrix`.

A row is one platform; `rows.py` lists them. One that cannot be had here is named with the reason, and never left out.
"""

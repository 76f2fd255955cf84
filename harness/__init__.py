"""What tests, bench and chaos share: a PostgreSQL server, a proxy before it, temporary files, promises to check.

It imports none of them.
"""

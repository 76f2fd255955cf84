"""Users of a PostgreSQL database with fewer rights than its owner."""

from __future__ import annotations

from harness.password import PASSWORD
from tests.support.rows import Rows

USER = "tidings_user"


def as_user(url: str, *rights: str) -> str:
    """Return the URL of a user who may use all tables, and has these further rights. `{user}` in them is the user's
    name."""
    rows = Rows(url)
    rows.run(f"do $$ begin create role {USER} login; exception when duplicate_object then null; end $$")
    rows.run(f"revoke all on all tables in schema tidings from {USER}")
    rows.run(f"revoke all on all sequences in schema tidings from {USER}")
    rows.run(f"grant usage on schema tidings to {USER}")
    rows.run(f"grant select, insert, update, delete on all tables in schema tidings to {USER}")
    for right in rights:
        rows.run(right.replace("{user}", USER))
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{USER}:{PASSWORD}@{rest.partition('@')[2]}"

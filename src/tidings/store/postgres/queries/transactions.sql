-- name: begin
-- Stated here, whatever the server's default is: the arguments about fences and locks assume that each statement sees
-- everything committed before that statement.
begin isolation level read committed read write;

-- name: pin_settings
-- The first statement of each transaction in a session lent by a pooler. Before it, nothing is known about the
-- session, not even its search_path, so all names are qualified. The settings end with the transaction.
select pg_catalog.set_config(name, value, true)
from rows from (pg_catalog.unnest(:names::pg_catalog.text[]), pg_catalog.unnest(:values::pg_catalog.text[])) as s (name, value);

-- name: begin_reading
-- For reads in a session lent by a pooler: under another isolation level a read may fail, or wait for others.
begin isolation level read committed not deferrable;

-- name: commit
commit;

-- name: rollback
rollback;

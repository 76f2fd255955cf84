-- name: renew_executor
-- The first statement of every batch: fence, heartbeat, and proof of landing in one row.
--
-- Why the fence holds. Whoever takes runs away raises the fence in this row first, and reads what
-- the runs recorded in a later statement.
-- * We are first: the raise waits for our row lock, hence for our commit, and the later statement
--   sees all we wrote.
-- * The raise is first: this update waits for it, and then looks at the row's new version (READ
--   COMMITTED evaluates the condition again). It does not match, the transaction ends here, and
--   nothing of the batch is written. There is no place in between: what follows in the batch
--   runs under the row lock.
-- This would break if a raise and the reading of histories were one statement, or if the condition
-- looked at any row but the locked one, for only that one is read anew after waiting.
--
-- `last_batch` is what we know to have landed last, or the batch is refused here. Two things differ:
-- * The batch itself has landed. If the connection broke while it waited in the socket of a stalled
--   backend, that backend may execute it long after we asked and sent it again. Whichever comes
--   second finds the number of the first. So who was left in doubt asks once more, by the number
--   (`last_batch`), before it believes that anything else has happened.
-- * Something that had landed is gone: the database was restored to a time before, or a standby
--   was promoted that lagged. What this process knows was never there, and it may not build on it.
with renewed as (
    update {schema}.executors
    set last_batch = :number::bigint, lease_until_ms = :lease_until_ms::bigint, last_refused = null
    where executor_id = :executor_id::text
        and fence = :fence::bigint
        and last_batch is not distinct from :landed::bigint
    returning 1
)
select {schema}.refuse('TD001') where not exists (select from renewed);

-- name: note_refusals
update {schema}.executors set last_refused = :refusals::text where executor_id = :executor_id::text;

-- name: last_batch
-- FOR UPDATE waits for a backend that still works on a batch of this executor.
select last_batch, last_refused from {schema}.executors where executor_id = :executor_id::text for update;

-- name: add_executor
-- The answer to the first try may have been lost, so the second one must find its own row fit.
insert into {schema}.executors (
    executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program
) values (
    :executor_id::text, :label::text, :lease_until_ms::bigint, 1, :lease_ms::bigint, :host::text, :pid::bigint,
    :started_at_ms::bigint, :app_version::text, :program::text
)
on conflict (executor_id) do update
set label = excluded.label, lease_until_ms = excluded.lease_until_ms, lease_ms = excluded.lease_ms,
    host = excluded.host, pid = excluded.pid, started_at_ms = excluded.started_at_ms,
    app_version = excluded.app_version, program = excluded.program
returning fence;

-- name: remove_executor
delete from {schema}.executors where executor_id = :executor_id::text;

-- name: lock_executors
-- In the order of their ids, so that two executors that take each other for dead do not deadlock.
-- Waits for batches in flight and for takeovers in progress, and returns the rows as of then.
select executor_id, fence, last_batch from {schema}.executors
where executor_id = any(:executor_ids::text[])
order by executor_id
for update;

-- name: raise_fences
-- Under `lock_executors`, so no batch of theirs is in flight; and none that comes later finds its fence.
-- The fence of the process that claims is raised too, and it goes on under that: where a failover or a
-- restored backup loses the claim, its next batch finds another fence, and it looks at what it owns.
-- From the end of all numbers, where only damage leads, it begins again: what counts is that it is another one.
update {schema}.executors set fence = case when fence < 9223372036854775807 then fence + 1 else 1 end
where executor_id = any(:executor_ids::text[]);

-- name: remove_idle_executors
-- Only those without pending runs, so that no run is owned by an executor that is not there. And
-- only long after their lease: one that was cut off in the middle of a commit asks its row, when it
-- is back, whether the commit has landed.
delete from {schema}.executors as e
where e.executor_id = any(:executor_ids::text[])
    and e.lease_until_ms < (extract(epoch from clock_timestamp()) * 1000)::bigint - :keep_ms::bigint
    and not exists (
        select from {schema}.workflows as w where w.executor_id = e.executor_id and w.status = 'PENDING'
    );

-- name: read_executors
select executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program
from {schema}.executors
order by executor_id;

-- name: now_ms
select (extract(epoch from clock_timestamp()) * 1000)::bigint;

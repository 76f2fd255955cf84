-- name: renew_executor
-- The first statement of every batch. It checks the fence, renews the lease, and records in the same row that the batch
-- landed.
--
-- Why the fence holds. A process that takes over runs raises the fence in this row first, and reads what the runs
-- recorded in a later statement.
-- * This update is first: the raise waits for our row lock, so for our commit. The later statement sees all we wrote.
-- * The raise is first: this update waits for it, then checks the row's new version (READ COMMITTED evaluates the
--   condition again). The fence does not match, so the transaction ends and nothing of the batch is written.
-- There is no third case: the rest of the batch runs under the row lock.
-- This would break if raising the fence and reading histories were one statement. It would also break if the condition
-- read any other row: after waiting, PostgreSQL reads only the locked row again.
--
-- The batch is also refused unless `last_batch` is the last batch that we know to have landed. There are two causes:
-- * This batch itself has landed. The connection broke while the batch waited in the socket of a stalled backend, and
--   that backend executed it long after we asked and sent it again. The second execution finds the number of the first.
--   So a store left in doubt asks once more for this number (`last_batch`) before it assumes anything else.
-- * A landed batch was lost: the database was restored to an earlier time, or a lagging standby was promoted. What this
--   process knows is not in the database, and nothing may build on it.
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
-- The answer to a first try may have been lost, so a retry accepts the row that the first try wrote.
insert into {schema}.executors (
    executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program, code_hash,
    takes_other_versions
) values (
    :executor_id::text, :label::text, :lease_until_ms::bigint, 1, :lease_ms::bigint, :host::text, :pid::bigint,
    :started_at_ms::bigint, :app_version::text, :program::text, :code_hash::text,
    :takes_other_versions::boolean
)
on conflict (executor_id) do update
set label = excluded.label, lease_until_ms = excluded.lease_until_ms, lease_ms = excluded.lease_ms,
    host = excluded.host, pid = excluded.pid, started_at_ms = excluded.started_at_ms,
    app_version = excluded.app_version, program = excluded.program, code_hash = excluded.code_hash,
    takes_other_versions = excluded.takes_other_versions
returning fence;

-- name: remove_executor
delete from {schema}.executors where executor_id = :executor_id::text;

-- name: lock_executors
-- Ordered by id, so that two executors that declare each other dead do not deadlock. Waits for batches in flight and
-- for takeovers in progress, and returns the rows as they are after that.
select executor_id, fence, last_batch from {schema}.executors
where executor_id = any(:executor_ids::text[])
order by executor_id
for update;

-- name: raise_fences
-- Runs under `lock_executors`: no batch of these executors is in flight, and no later one finds its fence.
-- The claiming process' own fence is raised too, and the process continues under the new one. If a failover or a
-- restored backup loses the claim, its next batch finds another fence, and it checks again which runs it owns.
-- A damaged row may hold the largest number. It restarts at 1: what counts is that the fence is a different one.
update {schema}.executors set fence = case when fence < 9223372036854775807 then fence + 1 else 1 end
where executor_id = any(:executor_ids::text[]);

-- name: remove_idle_executors
-- Only executors without pending runs, so that every owner of a run has a row. And only long after their lease: a
-- process that was cut off in the middle of a commit later asks its row whether the commit landed.
delete from {schema}.executors as e
where e.executor_id = any(:executor_ids::text[])
    and e.lease_until_ms < (extract(epoch from clock_timestamp()) * 1000)::bigint - :keep_ms::bigint
    and not exists (
        select from {schema}.workflows as w where w.executor_id = e.executor_id and w.status = 'PENDING'
    );

-- name: read_executors
select executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program, code_hash,
    takes_other_versions
from {schema}.executors
order by executor_id;

-- name: now_ms
select (extract(epoch from clock_timestamp()) * 1000)::bigint;

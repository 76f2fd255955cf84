-- name: renew_executor
-- The first statement of every batch. It checks the fence, renews the lease, and records in the same row that the batch
-- landed. It updates no row if the fence has moved, or if `last_batch` is not the last batch that we know to have
-- landed. In the second case this batch itself has landed, or the file was overwritten with an older one.
update tidings_executors
set last_batch = ?, lease_until_ms = ?, last_refused = null
where executor_id = ? and fence = ? and last_batch is ?;

-- name: note_refusals
update tidings_executors set last_refused = ? where executor_id = ?;

-- name: last_batch
select last_batch, last_refused from tidings_executors where executor_id = ?;

-- name: add_executor
-- The answer to a first try may have been lost, so a retry accepts the row that the first try wrote.
insert into tidings_executors (
    executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program, code_hash,
    takes_other_versions
) values (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (executor_id) do update
set label = excluded.label, lease_until_ms = excluded.lease_until_ms, lease_ms = excluded.lease_ms,
    host = excluded.host, pid = excluded.pid, started_at_ms = excluded.started_at_ms,
    app_version = excluded.app_version, program = excluded.program, code_hash = excluded.code_hash,
    takes_other_versions = excluded.takes_other_versions
returning fence;

-- name: remove_executor
delete from tidings_executors where executor_id = ? and fence = ?;

-- name: read_fence
select fence, last_batch from tidings_executors where executor_id = ?;

-- name: raise_fences
-- Comes before the takeover of their runs. We hold the lock, so no batch of these executors is in flight, and no later
-- one finds its fence. A damaged row may hold the largest number. It restarts at 1: what counts is that the fence is a
-- different one.
update tidings_executors set fence = case when fence < 9223372036854775807 then fence + 1 else 1 end
where executor_id in (select value from json_each(?));

-- name: remove_idle_executors
-- Only executors without pending runs, so that every owner of a run has a row. And only long after their lease: a
-- process that was cut off in the middle of a commit later asks its row whether the commit landed.
delete from tidings_executors
where executor_id in (select value from json_each(?)) and lease_until_ms < ?
    and not exists (
        select 1 from tidings_workflows as w
        where w.executor_id = tidings_executors.executor_id and w.status = 'PENDING'
    );

-- name: read_executors
select executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program, code_hash,
    takes_other_versions
from tidings_executors
order by executor_id;

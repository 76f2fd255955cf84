-- name: renew_executor
-- The first statement of every batch: fence, heartbeat, and proof of landing in one row. No row
-- means that the fence has moved, or that `last_batch` is not what we know to have landed last: the
-- batch itself has landed before, or the file was overwritten with an older one.
update tidings_executors
set last_batch = ?, lease_until_ms = ?, last_refused = null
where executor_id = ? and fence = ? and last_batch is ?;

-- name: note_refusals
update tidings_executors set last_refused = ? where executor_id = ?;

-- name: last_batch
select last_batch, last_refused from tidings_executors where executor_id = ?;

-- name: add_executor
-- A second try, after a first one whose answer was lost, finds its own row fit.
insert into tidings_executors (
    executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program
) values (?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
on conflict (executor_id) do update
set label = excluded.label, lease_until_ms = excluded.lease_until_ms, lease_ms = excluded.lease_ms,
    host = excluded.host, pid = excluded.pid, started_at_ms = excluded.started_at_ms,
    app_version = excluded.app_version, program = excluded.program
returning fence;

-- name: remove_executor
delete from tidings_executors where executor_id = ? and fence = ?;

-- name: read_fence
select fence, last_batch from tidings_executors where executor_id = ?;

-- name: raise_fences
-- Before anything of theirs is taken. No batch of theirs is in flight now, since we hold the lock,
-- and none that comes later finds its fence. From the end of all numbers, where only damage leads, it begins
-- again: what counts is that it is another one.
update tidings_executors set fence = case when fence < 9223372036854775807 then fence + 1 else 1 end
where executor_id in (select value from json_each(?));

-- name: remove_idle_executors
-- Only those without pending runs, so that no run is owned by an executor that is not there. And
-- only long after their lease: one that was cut off in the middle of a commit asks its row, when it
-- is back, whether the commit has landed.
delete from tidings_executors
where executor_id in (select value from json_each(?)) and lease_until_ms < ?
    and not exists (
        select 1 from tidings_workflows as w
        where w.executor_id = tidings_executors.executor_id and w.status = 'PENDING'
    );

-- name: read_executors
select executor_id, label, lease_until_ms, fence, lease_ms, host, pid, started_at_ms, app_version, program
from tidings_executors
order by executor_id;

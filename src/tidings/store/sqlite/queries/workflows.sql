-- part: columns
-- Of a `WorkflowRecord`, in its order.
workflow_id, status, name, inputs, output, error, serialization, epoch, executor_id, app_version,
parent_id, created_at_ms, updated_at_ms, class_name, config_name, timeout_ms, deadline_ms, recovery_attempts, progress,
program

-- name: start_workflow
-- Owned by the executor that commits it, under epoch 1. That the id is free was seen before.
insert into tidings_workflows (
    workflow_id, status, name, inputs, serialization, epoch, executor_id, app_version, parent_id,
    created_at_ms, updated_at_ms, class_name, config_name, timeout_ms, deadline_ms, program
) values (?, 'PENDING', ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: workflow_states
-- What the conditions of units are decided on. Nobody else writes until this transaction ends.
select workflow_id, status, epoch from tidings_workflows
where workflow_id in (select value from json_each(?));

-- name: end_workflow
update tidings_workflows set status = ?, output = ?, error = ?, updated_at_ms = ? where workflow_id = ?;

-- name: cancel_workflow
update tidings_workflows set status = 'CANCELLED', updated_at_ms = ? where workflow_id = ?;

-- name: read_workflows
select {columns}
from tidings_workflows
where workflow_id in (select value from json_each(?));

-- name: owned_workflows
select workflow_id, epoch from tidings_workflows where executor_id = ? and status = 'PENDING' order by seq;

-- name: disown_workflows
update tidings_workflows set executor_id = null where executor_id = ? and status = 'PENDING';

-- name: claimable_workflows
-- Oldest first. Two searches in the index of pending workflows: of an OR, SQLite makes a scan.
select seq from tidings_workflows
where seq in (
        select seq from tidings_workflows where status = 'PENDING' and executor_id is null
        union all
        select seq from tidings_workflows
        where status = 'PENDING' and executor_id in (select value from json_each(:dead))
    )
    and name in (select value from json_each(:names))
    and app_version = :app_version
    and (program is null or program = :program)
order by seq
limit :limit;

-- name: reclaimable_workflows
select seq from tidings_workflows
where workflow_id in (select value from json_each(:workflow_ids))
    and executor_id = :executor_id and status = 'PENDING'
order by seq;

-- name: claim_workflow
-- A number that is at its end stays there: one damaged row must not fail the claim of all. Who reads the row
-- sees that its epoch is out of range, and does not execute it.
-- A recovery attempt is counted where the former owner is a dead one: reclaimed is what is one's own already.
-- What was started before programs were told apart belongs, from now on, to the program that takes it.
update tidings_workflows
set epoch = epoch + (epoch < 9223372036854775807),
    executor_id = :executor_id,
    program = coalesce(program, :program),
    recovery_attempts = recovery_attempts
        + (executor_id <> :executor_id and executor_id is not null and recovery_attempts < 9223372036854775807)
where seq = :seq
returning {columns};

-- name: note_recovery
-- Under the epoch of the recovery: a later one knows better.
update tidings_workflows set recovery_attempts = ?, progress = ? where workflow_id = ? and epoch = ? and status = 'PENDING';

-- name: pending_groups
-- The example is the oldest: of the columns outside a group, SQLite takes those of the row that
-- holds the minimum.
select name, app_version, executor_id, count(*), workflow_id, program, min(seq)
from tidings_workflows
where status = 'PENDING'
group by name, app_version, executor_id, program
order by name, app_version, executor_id, program;

-- part: workflow_columns
-- The columns of a `WorkflowRecord`, in its order.
workflow_id, status, name, inputs, output, error, {workflow_fields}

-- part: workflow_fields
serialization, epoch, executor_id, app_version, parent_id, created_at_ms, updated_at_ms, class_name, config_name,
timeout_ms, deadline_ms, recovery_attempts, progress, program, stuck

-- name: start_workflow
-- The workflow gets epoch 1 and the committing executor as its owner; or epoch 0 and no owner, if another process shall
-- execute it. Its id is free: that was checked before.
insert into tidings_workflows (
    workflow_id, status, name, inputs, serialization, epoch, executor_id, app_version, parent_id,
    created_at_ms, updated_at_ms, class_name, config_name, timeout_ms, deadline_ms, program
) values (?, 'PENDING', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: workflow_states
-- The states from which `refusals` decides which units apply. No other connection writes until this transaction ends.
select workflow_id, status, epoch from tidings_workflows
where workflow_id in (select value from json_each(?));

-- name: workflow_ends
-- Only workflows that have ended, are stuck or do not exist: few rows, even if callers wait for thousands.
select ids.value, w.workflow_id, w.status, w.updated_at_ms
from json_each(?) as ids
left join tidings_workflows as w on w.workflow_id = ids.value
where w.status is not 'PENDING' or (w.stuck is not null and w.executor_id is null);

-- name: pending_below
-- Works generation by generation: SQLite processes the rows in the order in which it found them. UNION, because a
-- damaged row may be its own ancestor.
with recursive below (workflow_id, status) as (
    select w.workflow_id, w.status
    from json_each(:workflow_ids) as ids
    cross join tidings_workflows as w on w.parent_id = ids.value
    union
    select w.workflow_id, w.status
    from below
    cross join tidings_workflows as w on w.parent_id = below.workflow_id
)
select workflow_id from below where status = 'PENDING' limit :limit;

-- name: end_workflow
update tidings_workflows set status = ?, output = ?, error = ?, updated_at_ms = ? where workflow_id = ?;

-- name: cancel_workflow
update tidings_workflows set status = 'CANCELLED', updated_at_ms = ? where workflow_id = ?;

-- name: read_workflows
select {workflow_columns}
from tidings_workflows
where workflow_id in (select value from json_each(?));

-- name: owned_workflows
select workflow_id, epoch from tidings_workflows where executor_id = ? and status = 'PENDING' order by seq;

-- name: disown_workflows
update tidings_workflows set executor_id = null where executor_id = ? and status = 'PENDING';

-- name: claimable_workflows
-- Oldest first. Two searches in the index of pending workflows: with OR, SQLite would scan the table.
select seq from tidings_workflows
where seq in (
        select seq from tidings_workflows where status = 'PENDING' and executor_id is null
        union all
        select seq from tidings_workflows
        where status = 'PENDING' and executor_id in (select value from json_each(:dead))
    )
    and name in (select value from json_each(:names))
    and (
        app_version in (:app_version, '')
        or (:any_version and (stuck is not null or app_version not in (select value from json_each(:reserved))))
    )
    and (
        stuck is null
        or not exists (
            -- A damaged text counts as none: it must not fail the claim of all.
            select 1 from json_each(case when json_valid(stuck) then stuck else '[]' end)
            where json_extract(value, '$.version') = :app_version and json_extract(value, '$.code_hash') is :code_hash
        )
    )
    and (program is null or program = :program)
order by seq
limit :limit;

-- name: reclaimable_workflows
select seq from tidings_workflows
where workflow_id in (select value from json_each(:workflow_ids))
    and executor_id = :executor_id and status = 'PENDING'
order by seq;

-- name: claim_workflow
-- An epoch at the largest number stays there: one damaged row must not fail the claim of all. A reader of the row sees
-- that its epoch is out of range, and does not execute it.
-- A recovery attempt counts only if the former owner is a dead executor; a reclaimed workflow is this executor's own.
-- A workflow without a program (from a version that had none) belongs from now on to the program that claims it. A
-- workflow without a version (started by a process that executes none) gets the claiming process' version.
update tidings_workflows
set epoch = epoch + (epoch < 9223372036854775807),
    executor_id = :executor_id,
    program = coalesce(program, :program),
    app_version = coalesce(:app_version, app_version),
    recovery_attempts = recovery_attempts
        + (executor_id <> :executor_id and executor_id is not null and recovery_attempts < 9223372036854775807)
where seq = :seq
returning {workflow_columns};

-- name: release_stuck
-- After a claim: of what the dead owned, some code could not continue these, and this claim left them. Without an owner
-- they show as stuck. Counts as a claim, since the next claim finds no owner.
update tidings_workflows
set executor_id = null,
    epoch = epoch + (epoch < 9223372036854775807),
    recovery_attempts = recovery_attempts + (recovery_attempts < 9223372036854775807)
where executor_id in (select value from json_each(?)) and status = 'PENDING' and stuck is not null;

-- name: note_recovery
-- Only under the epoch of this recovery: a later recovery has newer numbers.
update tidings_workflows set recovery_attempts = ?, progress = ? where workflow_id = ? and epoch = ? and status = 'PENDING';

-- name: note_stuck
-- This version could not continue the workflow, which has no owner from now on. Only under the epoch of that run.
update tidings_workflows
set executor_id = null, stuck = json_insert(case when json_valid(stuck) then stuck else '[]' end, '$[#]', json(?))
where workflow_id = ? and epoch = ? and status = 'PENDING';

-- name: pending_groups
-- The example is the oldest: for columns outside the group, SQLite takes the row that holds the minimum.
select name, app_version, executor_id, count(*), workflow_id, program, stuck, min(seq)
from tidings_workflows
where status = 'PENDING'
group by name, app_version, executor_id, program, stuck
order by name, app_version, executor_id, program;

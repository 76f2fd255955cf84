-- part: workflow_columns
-- The columns of a `WorkflowRecord`, in its order.
workflow_id, status, name, inputs, output, error, {workflow_fields}

-- part: workflow_fields
serialization, epoch, executor_id, app_version, parent_id, created_at_ms, updated_at_ms, class_name, config_name,
timeout_ms, deadline_ms, recovery_attempts, progress, program, stuck::text

-- name: start_workflows
-- The workflow gets epoch 1 and the committing executor as its owner; or epoch 0 and no owner, if another process shall
-- execute it. If another transaction is just starting the same id, this waits and then does nothing. Only a later
-- statement can read the other's row: this one's snapshot is older.
-- Numbers are drawn in the order of the input. Rows are inserted in the order of their ids, so that two executors that
-- start the same ids do not deadlock.
with given as materialized (
    select nextval('{schema}.workflows_seq') as seq, *
    from unnest(
        :workflow_id::text[], :name::text[], :inputs::text[], :serialization::text[], :app_version::text[],
        :parent_id::text[], :created_at_ms::bigint[], :class_name::text[], :config_name::text[],
        :timeout_ms::bigint[], :deadline_ms::bigint[], :program::text[], :is_owned::bigint[]
    ) as n (
        workflow_id, name, inputs, serialization, app_version, parent_id, created_at_ms, class_name, config_name,
        timeout_ms, deadline_ms, program, is_owned
    )
),
started as (
    insert into {schema}.workflows (
        workflow_id, seq, status, name, inputs, serialization, epoch, executor_id, app_version, parent_id,
        created_at_ms, updated_at_ms, class_name, config_name, timeout_ms, deadline_ms, program
    )
    select
        workflow_id, seq, 'PENDING', name, inputs, serialization, is_owned,
        case when is_owned = 1 then :executor_id::text end, app_version, parent_id,
        created_at_ms, created_at_ms, class_name, config_name, timeout_ms, deadline_ms, program
    from given
    order by workflow_id collate "C"
    on conflict (workflow_id) do nothing
    returning workflow_id
)
select workflow_id from started
union all
select {schema}.refuse('TD002')
where :all_or_nothing::boolean and (select count(*) from started) <> cardinality(:workflow_id::text[]);

-- name: withdraw_workflows
-- They were started by this same transaction, for a unit that turned out not to apply.
delete from {schema}.workflows where workflow_id = any(:workflow_ids::text[]);

-- name: check_destinations
-- No lock is needed: rows of workflows are never removed. This comes after the batch's outcomes, so that the answers
-- name the states after it.
with found as materialized (
    select d.workflow_id, w.status, w.epoch
    from unnest(:workflow_ids::text[]) as d (workflow_id)
    left join {schema}.workflows as w on w.workflow_id = d.workflow_id
)
select workflow_id, status, epoch from found
union all
select {schema}.refuse('TD002'), null, null where exists (select from found where status is null);

-- name: lock_workflows
-- Locks the rows that are about to change, and those that the batch publishes or starts for, in the order of their ids.
-- An UPDATE alone would lock in an order that the planner chooses. All locks are in this one statement. Before it the
-- transaction has locked only workflows that it inserted itself, which no other transaction can see. So two batches
-- that each publish for a workflow that the other cancels take their locks in the same order.
--
-- Why nothing is published after a cancellation that somebody has seen. A cancellation is an UPDATE of the row, so it
-- and this lock exclude each other until the first of the two has committed.
-- * This lock is first: the cancellation waits for our commit. A reader that sees the cancellation and the items in one
--   snapshot sees our items.
-- * The cancellation is first: we wait, and get the row's new version (READ COMMITTED). It is not pending, so the
--   transaction ends and nothing of the batch is written.
-- This would break if the status were read without a lock: it might be older than the cancellation.
-- The same holds for a claim, which raises the epoch, and for starting a child: a reader that sees the parent cancelled
-- sees all children that the parent will ever have. A step does not know the epoch.
--
-- `count(*)` over all locked rows forces the plan to lock every row, whether it matches or not.
with locked as materialized (
    select workflow_id, status, epoch from {schema}.workflows
    where workflow_id = any(:workflow_ids::text[])
    order by workflow_id
    for update
),
counted as (
    select count(p.workflow_id) filter (
        where l.status = :pending::text and l.epoch = coalesce(p.epoch, l.epoch)
    ) as pending
    from locked as l
    left join unnest(:needed::text[], :epoch::bigint[]) as p (workflow_id, epoch) on p.workflow_id = l.workflow_id
)
select {schema}.refuse('TD002') from counted where pending <> cardinality(:needed::text[]);

-- name: workflow_states
-- The states from which `refusals` decides which units apply.
select workflow_id, status, epoch from {schema}.workflows where workflow_id = any(:workflow_ids::text[]);

-- name: workflow_ends
-- Only workflows that have ended, are stuck or do not exist: few rows, even if callers wait for thousands.
select ids.workflow_id, w.workflow_id, w.status, w.updated_at_ms
from unnest(:workflow_ids::text[]) as ids (workflow_id)
left join {schema}.workflows as w on w.workflow_id = ids.workflow_id
where w.status is distinct from 'PENDING' or (w.stuck is not null and w.executor_id is null);

-- name: pending_below
-- Works generation by generation, as far as needed. UNION, because a damaged row may be its own ancestor. `offset 0`
-- keeps the planner from reading the whole table for each generation.
with recursive below (workflow_id, status) as (
    select w.workflow_id, w.status from {schema}.workflows as w where w.parent_id = any(:workflow_ids::text[])
    union
    select child.workflow_id, child.status
    from below
    cross join lateral (
        select w.workflow_id, w.status from {schema}.workflows as w where w.parent_id = below.workflow_id offset 0
    ) as child
)
select workflow_id from below where status = 'PENDING' limit :limit::bigint;

-- name: end_workflows
-- If another transaction is just cancelling the workflow, this waits and then finds the row no longer pending.
-- `:pending` is a parameter, so that the planner cannot choose the index of pending workflows: it would read all of
-- that index for each row.
with ended as (
    update {schema}.workflows as w
    set status = o.status, output = o.output, error = o.error, updated_at_ms = o.at_ms
    from unnest(
        :workflow_id::text[], :epoch::bigint[], :status::text[], :output::text[], :error::text[], :at_ms::bigint[]
    ) as o (workflow_id, epoch, status, output, error, at_ms)
    where w.workflow_id = o.workflow_id and w.epoch = o.epoch and w.status = :pending::text
    returning 1
)
select {schema}.refuse('TD002') where (select count(*) from ended) <> cardinality(:workflow_id::text[]);

-- name: cancel_workflows
with cancelled as (
    update {schema}.workflows
    set status = 'CANCELLED', updated_at_ms = :now_ms::bigint
    where workflow_id = any(:workflow_ids::text[]) and status = :pending::text
    returning 1
)
select {schema}.refuse('TD002') where (select count(*) from cancelled) <> cardinality(:workflow_ids::text[]);

-- name: read_workflows
select {workflow_columns}
from {schema}.workflows
where workflow_id = any(:workflow_ids::text[]);

-- name: owned_workflows
select workflow_id, epoch from {schema}.workflows
where executor_id = :executor_id::text and status = 'PENDING'
order by seq;

-- name: disown_workflows
with owned as materialized (
    select workflow_id from {schema}.workflows
    where executor_id = :executor_id::text and status = 'PENDING'
    order by workflow_id
    for update
)
update {schema}.workflows as w set executor_id = null from owned where w.workflow_id = owned.workflow_id;

-- name: claim_workflows
-- A workflow without a program (from a version that had none) belongs from now on to the program that claims it. A
-- workflow without a version (started by a process that executes none) gets the claiming process' version.
-- Oldest first. A later statement than `raise_fences`, so it sees what batches in flight have started.
-- SKIP LOCKED: a locked row is being cancelled, or claimed by another process; leave it for the next claim.
-- An epoch at the largest number stays there: one damaged row must not fail the claim of all. A reader of the row sees
-- that its epoch is out of range, and does not execute it.
-- `seq + 0`: with `seq` alone, the planner would walk through all workflows to avoid a sort.
with chosen as materialized (
    select workflow_id from {schema}.workflows
    where status = 'PENDING'
        and (executor_id = any(:dead::text[]) or executor_id is null)
        and name = any(:names::text[])
        and (
            app_version in (:app_version::text, '')
            or (:any_version::boolean and (stuck is not null or app_version <> all(:reserved::text[])))
        )
        and (
            stuck is null
            or not stuck @> jsonb_build_array(
                jsonb_build_object('version', :app_version::text, 'code_hash', :code_hash::text)
            )
        )
        and (program is null or program = :program::text)
    order by seq + 0
    limit :limit::bigint
    for update skip locked
),
claimed as (
    update {schema}.workflows as w
    set executor_id = :executor_id::text,
        epoch = w.epoch + (w.epoch < 9223372036854775807)::int,
        program = coalesce(w.program, :program::text),
        app_version = :app_version::text,
        recovery_attempts = w.recovery_attempts
            + (w.executor_id is not null and w.recovery_attempts < 9223372036854775807)::int
    from chosen
    where w.workflow_id = chosen.workflow_id
    returning w.*
)
select {workflow_columns}
from claimed
order by seq;

-- name: release_stuck
-- After `claim_workflows`: of what the dead owned, some code could not continue these, and this claim left them. Without
-- an owner they show as stuck. Counts as a claim, since the next claim finds no owner. With `stuck is not null` the
-- planner would read all that is stuck, by its index.
with abandoned as materialized (
    select workflow_id from {schema}.workflows
    where executor_id = any(:executor_ids::text[]) and status = 'PENDING' and (stuck is null) is false
    for update skip locked
)
update {schema}.workflows as w
set executor_id = null,
    epoch = w.epoch + (w.epoch < 9223372036854775807)::int,
    recovery_attempts = w.recovery_attempts + (w.recovery_attempts < 9223372036854775807)::int
from abandoned
where w.workflow_id = abandoned.workflow_id;

-- name: reclaim_workflows
with owned as materialized (
    select workflow_id from {schema}.workflows
    where workflow_id = any(:workflow_ids::text[]) and executor_id = :executor_id::text and status = :pending::text
    order by workflow_id
    for update
),
claimed as (
    update {schema}.workflows as w
    set epoch = w.epoch + (w.epoch < 9223372036854775807)::int, program = coalesce(w.program, :program::text)
    from owned
    where w.workflow_id = owned.workflow_id
    returning w.*
)
select {workflow_columns}
from claimed
order by seq;

-- name: note_recoveries
-- Only under the epoch of this recovery: a later recovery has newer numbers.
update {schema}.workflows as w set recovery_attempts = r.attempts, progress = r.progress
from unnest(:workflow_id::text[], :epoch::bigint[], :attempts::bigint[], :progress::bigint[])
    as r (workflow_id, epoch, attempts, progress)
where w.workflow_id = r.workflow_id and w.epoch = r.epoch and w.status = :pending::text;

-- name: note_stuck
-- This version could not continue the workflow, which has no owner from now on. Only under the epoch of that run.
update {schema}.workflows as w
set executor_id = null, stuck = coalesce(w.stuck, '[]') || n.stuck::jsonb
from unnest(:workflow_id::text[], :epoch::bigint[], :stuck::text[]) as n (workflow_id, epoch, stuck)
where w.workflow_id = n.workflow_id and w.epoch = n.epoch and w.status = :pending::text;

-- name: pending_groups
select name, app_version, executor_id, count(*), (array_agg(workflow_id order by seq))[1], program, stuck::text
from {schema}.workflows
where status = 'PENDING'
group by name, app_version, executor_id, program, stuck
order by name, app_version, executor_id, program;

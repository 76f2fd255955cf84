-- part: columns
-- Of a `WorkflowRecord`, in its order.
workflow_id, status, name, inputs, output, error, serialization, epoch, executor_id, app_version,
parent_id, created_at_ms, updated_at_ms, class_name, config_name, timeout_ms, deadline_ms, recovery_attempts, progress,
program

-- name: start_workflows
-- Owned by the executor that commits it, under epoch 1. An id that somebody else is just starting
-- makes this wait and then do nothing: the other's row is there for a later statement to read, not
-- for this one, whose snapshot is older.
-- Numbers are drawn in the order of the input; rows go in by key, so that two executors that start
-- the same ids do not deadlock.
with given as materialized (
    select nextval('{schema}.workflows_seq') as seq, *
    from unnest(
        :workflow_id::text[], :name::text[], :inputs::text[], :serialization::text[], :app_version::text[],
        :parent_id::text[], :created_at_ms::bigint[], :class_name::text[], :config_name::text[],
        :timeout_ms::bigint[], :deadline_ms::bigint[], :program::text[]
    ) as n (
        workflow_id, name, inputs, serialization, app_version, parent_id, created_at_ms, class_name, config_name,
        timeout_ms, deadline_ms, program
    )
),
started as (
    insert into {schema}.workflows (
        workflow_id, seq, status, name, inputs, serialization, epoch, executor_id, app_version, parent_id,
        created_at_ms, updated_at_ms, class_name, config_name, timeout_ms, deadline_ms, program
    )
    select
        workflow_id, seq, 'PENDING', name, inputs, serialization, 1, :executor_id::text, app_version, parent_id,
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
-- Started by this very transaction, for a unit that turned out not to apply.
delete from {schema}.workflows where workflow_id = any(:workflow_ids::text[]);

-- name: check_destinations
-- A plain look is enough: rows of workflows are never removed. It comes after what the batch ends, so
-- that the states are those that the answers name.
with found as materialized (
    select d.workflow_id, w.status, w.epoch
    from unnest(:workflow_ids::text[]) as d (workflow_id)
    left join {schema}.workflows as w on w.workflow_id = d.workflow_id
)
select workflow_id, status, epoch from found
union all
select {schema}.refuse('TD002'), null, null where exists (select from found where status is null);

-- name: lock_workflows
-- Rows that are about to change or are published for, in key order: an UPDATE locks in an order of the
-- planner's choice. All in one statement, and no workflow is locked before it but those that this
-- transaction has inserted, which nobody else can see. So two batches that each publish for what the
-- other one cancels meet in one order, whichever row comes first.
--
-- Why nothing is published behind a cancellation that somebody has seen. A cancellation is an UPDATE of
-- the row, so it and we exclude each other until the first of the two has committed.
-- * We are first: it waits for our commit. Whoever sees it, in one snapshot with the items, sees ours.
-- * It is first: we wait, and get the row's new version (READ COMMITTED). That is not pending, the
--   transaction ends here, and nothing of the batch is written.
-- This would break if the status came from a look without a lock, which may be older than the
-- cancellation. The same holds for a claim, which raises the epoch.
--
-- Counting all that was locked, whether it fits or not, lets no plan stop before the last of them.
with locked as materialized (
    select workflow_id, status, epoch from {schema}.workflows
    where workflow_id = any(:workflow_ids::text[])
    order by workflow_id
    for update
),
counted as (
    select count(*) filter (where l.status = :pending::text and l.epoch = p.epoch) as pending
    from locked as l
    left join unnest(:published_for::text[], :epoch::bigint[]) as p (workflow_id, epoch)
        on p.workflow_id = l.workflow_id
)
select {schema}.refuse('TD002') from counted where pending <> cardinality(:published_for::text[]);

-- name: workflow_states
-- What the conditions of units are decided on.
select workflow_id, status, epoch from {schema}.workflows where workflow_id = any(:workflow_ids::text[]);

-- name: end_workflows
-- If somebody is just cancelling one, this waits and looks at its new version: it is not pending then.
-- `:pending` is a parameter so that the planner cannot prove that the index of pending workflows
-- would do: it would read all of it, for each row.
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
select {columns}
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
-- What was started before programs were told apart belongs, from now on, to the program that takes it.
-- Oldest first. After `raise_fences`, as a later statement: what a batch in flight started is seen.
-- A row that is locked right now is being cancelled, or taken by another claim: leave it for the next.
-- A number that is at its end stays there: one damaged row must not fail the claim of all. Who reads the row
-- sees that its epoch is out of range, and does not execute it.
-- `seq + 0`: by `seq` alone the planner would walk through all that ever was, to save itself the sorting.
with chosen as materialized (
    select workflow_id from {schema}.workflows
    where status = 'PENDING'
        and (executor_id = any(:dead::text[]) or executor_id is null)
        and name = any(:names::text[])
        and app_version = :app_version::text
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
        recovery_attempts = w.recovery_attempts
            + (w.executor_id is not null and w.recovery_attempts < 9223372036854775807)::int
    from chosen
    where w.workflow_id = chosen.workflow_id
    returning w.*
)
select {columns}
from claimed
order by seq;

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
select {columns}
from claimed
order by seq;

-- name: note_recoveries
-- Under the epoch of the recovery: a later one knows better.
update {schema}.workflows as w set recovery_attempts = r.attempts, progress = r.progress
from unnest(:workflow_id::text[], :epoch::bigint[], :attempts::bigint[], :progress::bigint[])
    as r (workflow_id, epoch, attempts, progress)
where w.workflow_id = r.workflow_id and w.epoch = r.epoch and w.status = :pending::text;

-- name: pending_groups
select name, app_version, executor_id, count(*), (array_agg(workflow_id order by seq))[1], program
from {schema}.workflows
where status = 'PENDING'
group by name, app_version, executor_id, program
order by name, app_version, executor_id, program;

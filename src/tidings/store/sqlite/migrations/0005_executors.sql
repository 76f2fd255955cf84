-- What operators and other processes need to know about executors, and how often a process died while it executed a
-- workflow.

-- The length of its lease: other processes declare it dead after so long without a batch.
alter table tidings_executors add column lease_ms integer not null default 10000;
alter table tidings_executors add column host text not null default '';
alter table tidings_executors add column pid integer not null default 0;
alter table tidings_executors add column started_at_ms integer not null default 0;
-- The version of the code with which it executes workflows; null: it executes none.
alter table tidings_executors add column app_version text;

-- Created again, because values that may be large come last: see 0003.

create table tidings_workflows_new (
    seq integer primary key autoincrement,
    workflow_id text not null unique,
    status text not null,
    name text not null,
    class_name text,  -- the class, if the workflow is a method
    config_name text,  -- the configured instance that the method was called on
    serialization text not null,
    -- Raised by every claim: an outcome counts only under the epoch of the run it ends.
    epoch integer not null,
    executor_id text,
    app_version text not null,
    parent_id text,
    created_at_ms integer not null,
    updated_at_ms integer not null,
    timeout_ms integer,  -- from its start to its end
    deadline_ms integer,  -- when the timeout is over
    -- How often a process died while it executed the workflow, since the workflow last recorded anything new.
    recovery_attempts integer not null default 0,
    -- How many operations the workflow had recorded at its last recovery.
    progress integer not null default 0,
    error text,
    output text,
    inputs text not null
) strict;

insert into tidings_workflows_new (
    seq, workflow_id, status, name, class_name, config_name, serialization, epoch, executor_id, app_version, parent_id,
    created_at_ms, updated_at_ms, timeout_ms, deadline_ms, error, output, inputs
)
select
    seq, workflow_id, status, name, class_name, config_name, serialization, epoch, executor_id, app_version, parent_id,
    created_at_ms, updated_at_ms, timeout_ms, deadline_ms, error, output, inputs
from tidings_workflows
order by seq;

-- The numbers continue where they were: none is used twice, not even the number of a deleted row.
delete from sqlite_sequence where name = 'tidings_workflows_new';
update sqlite_sequence set name = 'tidings_workflows_new' where name = 'tidings_workflows';

drop table tidings_workflows;
alter table tidings_workflows_new rename to tidings_workflows;

-- Pending workflows by owner, for takeovers and claims.
create index tidings_workflows_pending on tidings_workflows (executor_id, seq) where status = 'PENDING';

create index tidings_workflows_by_parent on tidings_workflows (parent_id) where parent_id is not null;

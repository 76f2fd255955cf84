-- Which program a workflow belongs to: programs of different names share a database and not their workflows.

-- Which program it executes workflows of; null: none, or any.
alter table tidings_executors add column program text;

-- Made anew, for values that may be large must stand last: see 0003.

create table tidings_workflows_new (
    seq integer primary key autoincrement,
    workflow_id text not null unique,
    status text not null,
    name text not null,
    class_name text,  -- the class whose method it is
    config_name text,  -- and the configured instance it was called on
    serialization text not null,
    -- Raised by every claim: an outcome counts only under the epoch of the run it ends.
    epoch integer not null,
    executor_id text,
    app_version text not null,
    parent_id text,
    created_at_ms integer not null,
    updated_at_ms integer not null,
    timeout_ms integer,  -- from its start to its end
    deadline_ms integer,  -- when that is over
    -- Deaths of a process that executed it, since it last got on.
    recovery_attempts integer not null default 0,
    -- How many operations it had recorded when it was last recovered.
    progress integer not null default 0,
    -- The name of the program that started it, and alone executes it. Null: started before programs were told
    -- apart, so any of them may execute it, and then it is that one's.
    program text,
    error text,
    output text,
    inputs text not null
) strict;

insert into tidings_workflows_new (
    seq, workflow_id, status, name, class_name, config_name, serialization, epoch, executor_id, app_version, parent_id,
    created_at_ms, updated_at_ms, timeout_ms, deadline_ms, recovery_attempts, progress, error, output, inputs
)
select
    seq, workflow_id, status, name, class_name, config_name, serialization, epoch, executor_id, app_version, parent_id,
    created_at_ms, updated_at_ms, timeout_ms, deadline_ms, recovery_attempts, progress, error, output, inputs
from tidings_workflows
order by seq;

-- The numbers go on where they were: none is used twice, not even that of a row that is gone.
delete from sqlite_sequence where name = 'tidings_workflows_new';
update sqlite_sequence set name = 'tidings_workflows_new' where name = 'tidings_workflows';

drop table tidings_workflows;
alter table tidings_workflows_new rename to tidings_workflows;

-- What an executor owns, and what is left to claim.
create index tidings_workflows_pending on tidings_workflows (executor_id, seq) where status = 'PENDING';

create index tidings_workflows_by_parent on tidings_workflows (parent_id) where parent_id is not null;

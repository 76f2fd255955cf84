-- Columns for timeouts and methods, and what lists need.
--
-- The table is created again, because large values should come last. SQLite reads a row from its beginning, and would
-- walk through all of a large value to reach a column after it. So a list without values does not read them.

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
    error text,
    output text,
    inputs text not null
) strict;

insert into tidings_workflows_new (
    seq, workflow_id, status, name, serialization, epoch, executor_id, app_version, parent_id, created_at_ms,
    updated_at_ms, error, output, inputs
)
select
    seq, workflow_id, status, name, serialization, epoch, executor_id, app_version, parent_id, created_at_ms,
    updated_at_ms, error, output, inputs
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

-- Lists are in the order of `seq`, which is the order of the table itself: they need no index.
--
-- Messages get no index by workflow. Every message would be written to it, only for people who list messages now and
-- then. Such a list needs none: unread messages are in `tidings_messages_unread`, and the workflow's entries refer to
-- the read ones.

-- What timeouts and methods keep with a workflow, and what lists go by.
--
-- The table is made anew, because values may be large and should stand last: SQLite reads a row from
-- its beginning, and would walk through all of a large value to a column behind it. So a list that
-- leaves values out does not read them.

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

-- The numbers go on where they were: none is used twice, not even that of a row that is gone.
delete from sqlite_sequence where name = 'tidings_workflows_new';
update sqlite_sequence set name = 'tidings_workflows_new' where name = 'tidings_workflows';

drop table tidings_workflows;
alter table tidings_workflows_new rename to tidings_workflows;

-- What an executor owns, and what is left to claim.
create index tidings_workflows_pending on tidings_workflows (executor_id, seq) where status = 'PENDING';

create index tidings_workflows_by_parent on tidings_workflows (parent_id) where parent_id is not null;

-- Lists are in the order of `seq`, which is that of the table itself: they need no index.
--
-- Messages get no index of all that one workflow was sent. Every message would be put into it, for the
-- sake of somebody who looks now and then. The look does without: what is unread is in
-- `tidings_messages_unread`, and what was read is what the workflow's entries point at.

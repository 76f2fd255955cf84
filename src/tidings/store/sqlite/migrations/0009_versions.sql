-- What lets a workflow continue under another version of the code.

-- The versions that could not continue the workflow, as a JSON array of objects: version, operation, reason, at_ms. It
-- stands behind large values, but it is nearly always NULL, and a NULL is known from the head of the row.
alter table tidings_workflows add column stuck text;
create index tidings_workflows_stuck on tidings_workflows (seq) where stuck is not null and status = 'PENDING';

-- Entries are created again, because values that may be large come last: see 0003. A trigger that names the table would
-- be checked while it is away.
drop trigger tidings_remove_belongings;

create table tidings_entries_new (
    workflow_seq integer not null,
    branch text not null,
    position integer not null,
    ordinal integer not null,
    name text not null,
    state text not null,
    child_workflow_id text,
    -- The message that this operation took. The body is not copied: reading a history joins the message.
    message_seq integer,
    deadline_ms integer,
    started_at_ms integer,
    completed_at_ms integer,
    -- The order in which results came, and how many operations had begun before each. A replay follows this order for
    -- branches that ran in parallel.
    finished integer,
    begun integer,
    target text,  -- what it is aimed at: a topic, a destination, the id that it awaits; a replay compares it
    error text,
    output text,
    unique (workflow_seq, branch, position)
) strict;

insert into tidings_entries_new (
    workflow_seq, branch, position, ordinal, name, state, child_workflow_id, message_seq, deadline_ms, started_at_ms,
    completed_at_ms, finished, begun, target, error, output
)
select
    workflow_seq, branch, position, ordinal, name, state, child_workflow_id, message_seq, deadline_ms, started_at_ms,
    completed_at_ms, finished, begun, null, error, output
from tidings_entries;

drop table tidings_entries;
alter table tidings_entries_new rename to tidings_entries;

create trigger tidings_remove_belongings after delete on tidings_workflows
begin
    delete from tidings_messages
    where seq in (select message_seq from tidings_entries where workflow_seq = old.seq) and destination_seq = old.seq;
    delete from tidings_messages where destination_seq = old.seq and read_by_branch is null;
    delete from tidings_messages where destination_seq = old.seq and idempotency_key is not null;
    delete from tidings_entries where workflow_seq = old.seq;
    delete from tidings_events where workflow_seq = old.seq;
    delete from tidings_stream_items where workflow_seq = old.seq;
    delete from tidings_closed_streams where workflow_seq = old.seq;
end;

-- Workflows, their entries, messages and events, and the executors that run them.
--
-- Every table refers to a workflow by its number (`seq`), not by its id. Ids are random text: the rows of a hundred
-- running workflows would be on a hundred pages of an index, and each batch would write them all to the log. The
-- numbers of running workflows are close together. Measured: four times as many entries per second. The tables keep
-- their rowids: rows are appended, and large values do not spread an index over more pages. Times are milliseconds
-- since the epoch. AUTOINCREMENT: a number is never used twice.

create table tidings_schema (version integer not null) strict;
insert into tidings_schema values (0);

create table tidings_workflows (
    seq integer primary key autoincrement,
    workflow_id text not null unique,
    status text not null,
    name text not null,
    inputs text not null,
    output text,
    error text,
    serialization text not null,
    -- Raised by every claim: an outcome counts only under the epoch of the run it ends.
    epoch integer not null,
    executor_id text,
    app_version text not null,
    parent_id text,
    created_at_ms integer not null,
    updated_at_ms integer not null
) strict;

-- Pending workflows by owner, for takeovers and claims.
create index tidings_workflows_pending on tidings_workflows (executor_id, seq) where status = 'PENDING';

create table tidings_entries (
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
    error text,
    output text,
    unique (workflow_seq, branch, position)
) strict;

create table tidings_messages (
    seq integer primary key autoincrement,
    destination_seq integer not null,
    topic text,  -- null: sent without a topic
    sender_id text,
    idempotency_key text,
    sent_at_ms integer not null,
    -- The position of the operation that took it; null while it is unread.
    read_by_branch text,
    read_by_position integer,
    body text not null
) strict;

-- Only unread messages: a receive costs the same after a million read messages.
create index tidings_messages_unread on tidings_messages (destination_seq, topic, seq) where read_by_branch is null;

create unique index tidings_messages_idempotency on tidings_messages (destination_seq, idempotency_key)
where idempotency_key is not null;

create table tidings_events (
    workflow_seq integer not null,
    key text not null,
    version integer not null,  -- the highest is the latest
    -- The position in its workflow's history; null if a step published it.
    branch text,
    position integer,
    ordinal integer,
    at_ms integer not null,
    value text not null,
    unique (workflow_seq, key, version)
) strict;

create table tidings_executors (
    executor_id text primary key,
    label text not null,
    lease_until_ms integer not null,
    -- Raised when another process takes over this executor's runs: batches under the old fence then change nothing.
    fence integer not null,
    last_batch integer,
    -- The refusals among the answers of the last batch, as JSON; null if there were none.
    last_refused text
) strict, without rowid;

-- Workflows, their entries, messages and events, and the executors that run them.
--
-- Text that is compared is `collate "C"`: keys are compared and ordered as bytes, alike on every server.
-- Times are milliseconds since the epoch. There are no foreign keys: each would lock one more row per write, and a
-- batch checks its destinations anyway. `{schema}` is the quoted name of the schema.

create table {schema}.schema_version (version integer not null);
insert into {schema}.schema_version values (0);

-- Lets a statement in the middle of a pipeline end its transaction, with an SQLSTATE of our own. So the client need not
-- wait for an answer before it sends the next statement.
create function {schema}.refuse(code text) returns text language plpgsql volatile as $$
begin
    raise exception 'tidings refuses this batch' using errcode = code;
end
$$;

-- The numbers that define order. The inserting statements draw them one by one, in the order of their input, so they
-- are not identity columns. A cache above 1 would let sessions draw out of order.
create sequence {schema}.workflows_seq as bigint cache 1;
create sequence {schema}.messages_seq as bigint cache 1;

create table {schema}.workflows (
    workflow_id text collate "C" primary key,
    seq bigint not null,
    status text collate "C" not null,
    name text collate "C" not null,
    inputs text not null,
    output text,
    error text,
    serialization text collate "C" not null,
    -- Raised by every claim: an outcome counts only under the epoch of the run it ends.
    epoch bigint not null,
    executor_id text collate "C",
    app_version text collate "C" not null,
    parent_id text collate "C",
    created_at_ms bigint not null,
    updated_at_ms bigint not null
)
-- Each workflow is updated about once, when it ends: leave room for that on its page.
with (fillfactor = 90);

-- Pending workflows by owner, for takeovers and claims.
create index workflows_pending on {schema}.workflows (executor_id, seq) where status = 'PENDING';

create table {schema}.entries (
    workflow_id text collate "C" not null,
    branch text collate "C" not null,
    position bigint not null,
    ordinal bigint not null,
    name text collate "C" not null,
    state text collate "C" not null,
    output text,
    error text,
    child_workflow_id text collate "C",
    -- The message that this operation took. The body is not copied: reading a history joins the message.
    message_seq bigint,
    deadline_ms bigint,
    started_at_ms bigint,
    completed_at_ms bigint,
    -- The order in which results came, and how many operations had begun before each. A replay follows this order for
    -- branches that ran in parallel.
    finished bigint,
    begun bigint,
    primary key (workflow_id, branch, position)
);

create table {schema}.messages (
    seq bigint primary key,
    destination_id text collate "C" not null,
    topic text collate "C", -- null: sent without a topic
    body text not null,
    sender_id text collate "C",
    idempotency_key text collate "C",
    sent_at_ms bigint not null,
    -- The position of the operation that took it; null while it is unread.
    read_by_branch text collate "C",
    read_by_position bigint
)
-- Every message is updated once, when it is read. Each update leaves a dead row in the index of unread messages, which
-- the next receive would step over. So vacuum runs long before the default of a fifth of the table.
with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);

-- Only unread messages: a receive costs the same after a million read messages.
create index messages_unread on {schema}.messages (destination_id, topic, seq) where read_by_branch is null;

create unique index messages_idempotency on {schema}.messages (destination_id, idempotency_key)
where idempotency_key is not null;

create table {schema}.events (
    workflow_id text collate "C" not null,
    key text collate "C" not null,
    version bigint not null, -- the highest is the latest
    value text not null,
    -- The position in its workflow's history; null if a step published it.
    branch text collate "C",
    position bigint,
    ordinal bigint,
    at_ms bigint not null,
    primary key (workflow_id, key, version)
);

create table {schema}.executors (
    executor_id text collate "C" primary key,
    label text not null,
    lease_until_ms bigint not null,
    -- Raised when another process takes over this executor's runs: batches under the old fence then change nothing.
    fence bigint not null,
    last_batch bigint,
    -- The refusals among the answers of the last batch, as JSON; null if there were none.
    last_refused text
)
-- Each batch updates its executor's one row. No updated column is in an index and the page has room, so these are
-- heap-only updates: PostgreSQL reclaims the old versions without vacuum, which rarely has to run.
with (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

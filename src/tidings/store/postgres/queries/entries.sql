-- part: entry_columns
-- What an `Entry` holds.
branch, position, ordinal, name, state, output, error, child_workflow_id, deadline_ms, started_at_ms, completed_at_ms,
finished, begun, target

-- part: entry_values
:branch::text[], :position::bigint[], :ordinal::bigint[], :name::text[], :state::text[], :output::text[],
:error::text[], :child_workflow_id::text[], :deadline_ms::bigint[], :started_at_ms::bigint[],
:completed_at_ms::bigint[], :finished::bigint[], :begun::bigint[], :target::text[]

-- part: entry_upsert
-- An entry replaces an open one at its position, and no other. The message is that of the new entry, if any.
on conflict (workflow_id, branch, position) do update set
    ordinal = excluded.ordinal,
    name = excluded.name,
    state = excluded.state,
    output = excluded.output,
    error = excluded.error,
    child_workflow_id = excluded.child_workflow_id,
    message_seq = excluded.message_seq,
    deadline_ms = excluded.deadline_ms,
    started_at_ms = excluded.started_at_ms,
    completed_at_ms = excluded.completed_at_ms,
    finished = excluded.finished,
    begun = excluded.begun,
    target = excluded.target
where e.state = 'OPEN'

-- name: write_entries
-- One statement cannot change a row twice, so the caller has merged the batch's entries for one position. The order of
-- rows does not matter for deadlocks: only the executor that owns a run writes its entries.
insert into {schema}.entries as e (workflow_id, {entry_columns})
select * from unnest(:workflow_id::text[], {entry_values})
{entry_upsert};

-- name: reopen_entries
-- A message is put back: its position may be written once more, which `write_entries` does right after.
update {schema}.entries as e set state = 'OPEN', message_seq = null
from unnest(:workflow_id::text[], :branch::text[], :position::bigint[]) as p (workflow_id, branch, position)
where e.workflow_id = p.workflow_id and e.branch = p.branch and e.position = p.position;

-- name: read_entries
select
    e.workflow_id, e.branch, e.position, e.ordinal, e.name, e.state, e.output, e.error,
    e.child_workflow_id, e.deadline_ms, e.started_at_ms, e.completed_at_ms, e.finished, e.begun, e.target,
    e.message_seq, m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from {schema}.entries as e
left join {schema}.messages as m on m.seq = e.message_seq
where e.workflow_id = any(:workflow_ids::text[]);

-- name: read_steps
-- No row: no such workflow. One row without an ordinal: nothing recorded in this part. Events with a position are
-- entries, and so are items of streams that no step wrote. Their rows are merged in by ordinal; their values are not
-- read.
select
    page.branch, page.position, page.ordinal, page.name, page.state, page.output, page.error,
    page.child_workflow_id, page.deadline_ms, page.started_at_ms, page.completed_at_ms, page.finished, page.begun,
    page.target, page.message_seq, m.seq, case when :with_outputs::boolean then m.body else '' end, m.topic, m.sender_id, m.sent_at_ms,
    page.event_key, page.stream_key
from {schema}.workflows as w
left join lateral (
    select * from (
        select
            branch, position, ordinal, name, state,
            case when :with_outputs::boolean then output end as output,
            case when :with_outputs::boolean then error end as error,
            child_workflow_id, deadline_ms, started_at_ms, completed_at_ms, finished, begun, target, message_seq,
            null::text as event_key, null::text as stream_key
        from {schema}.entries
        where workflow_id = w.workflow_id
        union all
        select
            branch, position, ordinal, null, null, null, null, null, null, at_ms, at_ms, null, null, null, null, key,
            null
        from {schema}.events
        where workflow_id = w.workflow_id and branch is not null
        union all
        select
            branch, position, ordinal, null, null, null, null, null, null, at_ms, at_ms, null, null, null, null, null,
            key
        from {schema}.stream_items
        where workflow_id = w.workflow_id and attempt is null
    ) as recorded
    order by ordinal, branch, position
    limit :limit::bigint offset :offset::bigint
) as page on true
left join {schema}.messages as m on m.seq = page.message_seq
where w.workflow_id = :workflow_id::text
order by page.ordinal, page.branch, page.position;

-- name: write_entry
-- An entry replaces an open one at its position, and no other, unless the last parameter says so (a message that is put
-- back). A workflow that does not exist has no number: the insert then fails, because the column is not null.
insert into tidings_entries (
    workflow_seq, branch, position, ordinal, name, state, output, error, child_workflow_id, message_seq,
    deadline_ms, started_at_ms, completed_at_ms, finished, begun, target
) values (
    (select seq from tidings_workflows where workflow_id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
)
on conflict (workflow_seq, branch, position) do update set
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
where tidings_entries.state = 'OPEN' or ?;

-- name: read_entries
-- CROSS JOIN makes SQLite read the tables in this order: a few workflows first, not all entries.
select
    w.workflow_id, e.branch, e.position, e.ordinal, e.name, e.state, e.output, e.error,
    e.child_workflow_id, e.deadline_ms, e.started_at_ms, e.completed_at_ms, e.finished, e.begun, e.target,
    e.message_seq, m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from json_each(?) as ids
cross join tidings_workflows as w on w.workflow_id = ids.value
cross join tidings_entries as e on e.workflow_seq = w.seq
left join tidings_messages as m on m.seq = e.message_seq;

-- name: read_steps
-- No row: no such workflow. One row without an ordinal: nothing recorded in this part. Events with a position are
-- entries, and so are items of streams that no step wrote. Their rows are merged in by ordinal; their values are not
-- read. The page is found by rowids first, so that no values are sorted.
with workflow as materialized (select seq from tidings_workflows where workflow_id = :workflow_id),
page as materialized (
    select ordinal, branch, position, rowid as entry_row, null as event_row, null as item_row
    from tidings_entries
    where workflow_seq = (select seq from workflow)
    union all
    select ordinal, branch, position, null, rowid, null
    from tidings_events
    where workflow_seq = (select seq from workflow) and branch is not null
    union all
    select ordinal, branch, position, null, null, rowid
    from tidings_stream_items
    where workflow_seq = (select seq from workflow) and attempt is null
    order by ordinal, branch, position
    limit coalesce(:limit, -1) offset :offset
)
select
    page.branch, page.position, page.ordinal, e.name, e.state,
    case when :with_outputs then e.output end,
    case when :with_outputs then e.error end,
    e.child_workflow_id, e.deadline_ms,
    coalesce(e.started_at_ms, v.at_ms, i.at_ms), coalesce(e.completed_at_ms, v.at_ms, i.at_ms), e.finished, e.begun,
    e.target,
    e.message_seq, m.seq, case when :with_outputs then m.body else '' end, m.topic, m.sender_id, m.sent_at_ms,
    v.key, i.key
from workflow
left join page on true
left join tidings_entries as e on e.rowid = page.entry_row
left join tidings_events as v on v.rowid = page.event_row
left join tidings_stream_items as i on i.rowid = page.item_row
left join tidings_messages as m on m.seq = e.message_seq
order by page.ordinal, page.branch, page.position;

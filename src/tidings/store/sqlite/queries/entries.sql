-- name: write_entry
-- An entry replaces an open one at its place and no other, unless the last parameter says so (a
-- message that is put back). A workflow that is not there has no number, which no column accepts.
insert into tidings_entries (
    workflow_seq, branch, position, ordinal, name, state, output, error, child_workflow_id, message_seq,
    deadline_ms, started_at_ms, completed_at_ms, finished, begun
) values (
    (select seq from tidings_workflows where workflow_id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
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
    begun = excluded.begun
where tidings_entries.state = 'OPEN' or ?;

-- name: read_entries
-- CROSS JOIN: SQLite reads the tables in this order, a few workflows rather than all entries.
select
    w.workflow_id, e.branch, e.position, e.ordinal, e.name, e.state, e.output, e.error,
    e.child_workflow_id, e.deadline_ms, e.started_at_ms, e.completed_at_ms, e.finished, e.begun,
    m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from json_each(?) as ids
cross join tidings_workflows as w on w.workflow_id = ids.value
cross join tidings_entries as e on e.workflow_seq = w.seq
left join tidings_messages as m on m.seq = e.message_seq;

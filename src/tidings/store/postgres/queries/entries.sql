-- name: write_entries
-- An entry replaces an open one at its place and no other. One statement cannot touch a row twice:
-- the caller has merged what the batch says of one place.
-- Only the executor that owns a run writes its entries, so the order of rows needs no care.
insert into {schema}.entries as e (
    workflow_id, branch, position, ordinal, name, state, output, error, child_workflow_id, deadline_ms,
    started_at_ms, completed_at_ms, finished, begun
)
select * from unnest(
    :workflow_id::text[], :branch::text[], :position::bigint[], :ordinal::bigint[], :name::text[], :state::text[],
    :output::text[], :error::text[], :child_workflow_id::text[], :deadline_ms::bigint[], :started_at_ms::bigint[],
    :completed_at_ms::bigint[], :finished::bigint[], :begun::bigint[]
)
on conflict (workflow_id, branch, position) do update set
    ordinal = excluded.ordinal,
    name = excluded.name,
    state = excluded.state,
    output = excluded.output,
    error = excluded.error,
    child_workflow_id = excluded.child_workflow_id,
    deadline_ms = excluded.deadline_ms,
    started_at_ms = excluded.started_at_ms,
    completed_at_ms = excluded.completed_at_ms,
    finished = excluded.finished,
    begun = excluded.begun
where e.state = 'OPEN';

-- name: reopen_entries
-- A message is put back, so its place may be written once more: by `write_entries`, right after.
update {schema}.entries as e set state = 'OPEN', message_seq = null
from unnest(:workflow_id::text[], :branch::text[], :position::bigint[]) as p (workflow_id, branch, position)
where e.workflow_id = p.workflow_id and e.branch = p.branch and e.position = p.position;

-- name: read_entries
select
    e.workflow_id, e.branch, e.position, e.ordinal, e.name, e.state, e.output, e.error,
    e.child_workflow_id, e.deadline_ms, e.started_at_ms, e.completed_at_ms, e.finished, e.begun,
    m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from {schema}.entries as e
left join {schema}.messages as m on m.seq = e.message_seq
where e.workflow_id = any(:workflow_ids::text[]);

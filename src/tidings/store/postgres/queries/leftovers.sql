-- What is there of workflows that are not: a sender was just about to write when somebody deleted the row, or a run
-- that was deleted while it ran went on; or triggers were switched off. Found by who starts a workflow under such an id.
-- A start that lands meanwhile is seen together with all that follows it, or not at all.

-- name: remove_left_messages
delete from {schema}.messages as m
where m.destination_id = any(:workflow_ids::text[])
    and (m.read_by_branch is null or m.idempotency_key is not null)
    and not exists (select from {schema}.workflows as w where w.workflow_id = m.destination_id);

-- name: remove_left_entries
delete from {schema}.entries as e
where e.workflow_id = any(:workflow_ids::text[])
    and not exists (select from {schema}.workflows as w where w.workflow_id = e.workflow_id);

-- name: remove_left_events
delete from {schema}.events as e
where e.workflow_id = any(:workflow_ids::text[])
    and not exists (select from {schema}.workflows as w where w.workflow_id = e.workflow_id);

-- name: remove_left_items
delete from {schema}.stream_items as i
where i.workflow_id = any(:workflow_ids::text[])
    and not exists (select from {schema}.workflows as w where w.workflow_id = i.workflow_id);

-- name: remove_left_closings
delete from {schema}.closed_streams as c
where c.workflow_id = any(:workflow_ids::text[])
    and not exists (select from {schema}.workflows as w where w.workflow_id = c.workflow_id);

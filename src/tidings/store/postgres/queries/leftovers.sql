-- Leftovers: rows of workflows that do not exist. A sender was about to write when somebody deleted the workflow's row,
-- or a deleted run continued, or triggers were switched off. Leftovers are found when a workflow is started under their
-- workflow id. A start that lands meanwhile is seen together with all the rows that belong to it, or not at all.

-- name: check_leftovers
-- For workflows that this transaction has just started, under ids that a program chose. Leftovers end the batch; they
-- are removed before it is tried again. LIMIT makes this one index lookup per id. Without it the planner would read
-- whole tables into a hash.
select {schema}.refuse('TD004')
where exists (
    select from unnest(:workflow_ids::text[]) as c (workflow_id)
    cross join lateral (
        (select 1 from {schema}.entries as e where e.workflow_id = c.workflow_id limit 1)
        union all
        (select 1 from {schema}.events as e where e.workflow_id = c.workflow_id limit 1)
        union all
        (select 1 from {schema}.stream_items as i where i.workflow_id = c.workflow_id limit 1)
        union all
        (select 1 from {schema}.closed_streams as s where s.workflow_id = c.workflow_id limit 1)
        union all
        (
            select 1 from {schema}.messages as m
            where m.destination_id = c.workflow_id and m.read_by_branch is null
            limit 1
        )
        union all
        (
            select 1 from {schema}.messages as m
            where m.destination_id = c.workflow_id and m.idempotency_key is not null
            limit 1
        )
    ) as leftover
);

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

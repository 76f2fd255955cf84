-- name: publish_events
-- A row with a position is also the entry of the operation that published it. A version that exists already is an
-- error: only one run at a time numbers the versions.
insert into {schema}.events (workflow_id, key, version, value, branch, position, ordinal, at_ms)
select * from unnest(
    :workflow_id::text[], :key::text[], :version::bigint[], :value::text[], :branch::text[], :position::bigint[],
    :ordinal::bigint[], :at_ms::bigint[]
);

-- name: read_event_places
-- A history needs the positions and versions of events, but not their values.
select workflow_id, key, version, branch, position, ordinal, at_ms
from {schema}.events
where workflow_id = any(:workflow_ids::text[]);

-- name: latest_events
-- In the order of the input. One statement, so that value and status come from one snapshot. With two statements a
-- workflow could publish and end in between, and the reader would miss its last value.
select latest.value, w.status
from unnest(:workflow_id::text[], :key::text[]) with ordinality as p (workflow_id, key, number)
left join {schema}.workflows as w on w.workflow_id = p.workflow_id
left join lateral (
    select e.value from {schema}.events as e
    where e.workflow_id = p.workflow_id and e.key = p.key
    order by e.version desc
    limit 1
) as latest on true
order by p.number;

-- name: all_events
-- No row: no such workflow. One row without a key: it has no events.
select latest.key, latest.value
from {schema}.workflows as w
left join lateral (
    select distinct on (e.key) e.key, e.value from {schema}.events as e
    where e.workflow_id = w.workflow_id
    order by e.key, e.version desc
) as latest on true
where w.workflow_id = :workflow_id::text
order by latest.key;

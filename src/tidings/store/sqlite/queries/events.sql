-- name: publish_event
-- A row with a position is also the entry of the operation that published it. A version that exists already is an
-- error: only one run at a time numbers the versions.
insert into tidings_events (workflow_seq, key, version, branch, position, ordinal, at_ms, value)
values ((select seq from tidings_workflows where workflow_id = ?), ?, ?, ?, ?, ?, ?, ?);

-- name: read_event_places
-- A history needs the positions and versions of events, but not their values.
select w.workflow_id, e.key, e.version, e.branch, e.position, e.ordinal, e.at_ms
from json_each(?) as ids
cross join tidings_workflows as w on w.workflow_id = ids.value
cross join tidings_events as e on e.workflow_seq = w.seq;

-- name: latest_events
-- For pairs of workflow id and key, in their order. Value and status come from one snapshot.
select
    (
        select e.value from tidings_events as e
        where e.workflow_seq = w.seq and e.key = json_extract(pairs.value, '$[1]')
        order by e.version desc
        limit 1
    ),
    w.status
from json_each(?) as pairs
left join tidings_workflows as w on w.workflow_id = json_extract(pairs.value, '$[0]')
order by pairs.key;

-- name: all_events
-- No row: no such workflow. One row without a key: it has no events.
select e.key, e.value
from tidings_workflows as w
left join tidings_events as e
    on e.workflow_seq = w.seq
    and e.version = (
        select max(latest.version) from tidings_events as latest
        where latest.workflow_seq = w.seq and latest.key = e.key
    )
where w.workflow_id = ?
order by e.key;

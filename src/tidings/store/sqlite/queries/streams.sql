-- name: append_item
-- An item at an offset that exists already is an error: only one run at a time numbers the items.
insert into tidings_stream_items (
    workflow_seq, key, item_offset, branch, position, ordinal, attempt, at_ms, value
) values ((select seq from tidings_workflows where workflow_id = ?), ?, ?, ?, ?, ?, ?, ?, ?);

-- name: close_stream
-- A stream that is closed already keeps its time.
insert into tidings_closed_streams (workflow_seq, key, closed_at_ms)
values ((select seq from tidings_workflows where workflow_id = ?), ?, ?)
on conflict (workflow_seq, key) do nothing;

-- name: read_item_places
-- A history needs the positions of the items that the workflow itself wrote, but not their values. Values are last in
-- their rows, so SQLite does not read them.
select w.workflow_id, i.key, i.branch, i.position, i.ordinal, i.at_ms
from json_each(?) as ids
cross join tidings_workflows as w on w.workflow_id = ids.value
cross join tidings_stream_items as i on i.workflow_seq = w.seq and i.attempt is null;

-- name: stream_lengths
-- The offset of each stream's last item, also if a step wrote it; unlike a count, it cannot overflow. The query jumps
-- from key to key and to the end of each stream. Its cost depends on the number of streams, not on their length.
with recursive streams (workflow_id, workflow_seq, key) as (
    select
        w.workflow_id, w.seq,
        (select i.key from tidings_stream_items as i where i.workflow_seq = w.seq order by i.key limit 1)
    from json_each(?) as ids
    cross join tidings_workflows as w on w.workflow_id = ids.value
    union all
    select
        s.workflow_id, s.workflow_seq,
        (
            select i.key from tidings_stream_items as i
            where i.workflow_seq = s.workflow_seq and i.key > s.key
            order by i.key
            limit 1
        )
    from streams as s
    where s.key is not null
)
select
    s.workflow_id, s.key,
    (
        select i.item_offset from tidings_stream_items as i
        where i.workflow_seq = s.workflow_seq and i.key = s.key
        order by i.item_offset desc
        limit 1
    )
from streams as s
where s.key is not null;

-- name: closed_streams
select w.workflow_id, c.key
from json_each(?) as ids
cross join tidings_workflows as w on w.workflow_id = ids.value
cross join tidings_closed_streams as c on c.workflow_seq = w.seq;

-- name: stream_states
-- For pairs of workflow id and key, in their order: each stream's state. A length is one lookup at the end of the
-- index, never a count.
select
    w.seq,
    (
        select i.item_offset from tidings_stream_items as i
        where i.workflow_seq = w.seq and i.key = json_extract(pairs.value, '$[1]')
        order by i.item_offset desc
        limit 1
    ),
    exists (
        select 1 from tidings_closed_streams as c
        where c.workflow_seq = w.seq and c.key = json_extract(pairs.value, '$[1]')
    ),
    w.status
from json_each(?) as pairs
left join tidings_workflows as w on w.workflow_id = json_extract(pairs.value, '$[0]')
order by pairs.key;

-- name: read_items
-- The reader fetches row by row and stops when the page is full.
select item_offset, value
from tidings_stream_items
where workflow_seq = ? and key = ? and item_offset >= ?
order by item_offset
limit ?;

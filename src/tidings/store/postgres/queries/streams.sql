-- name: append_items
-- An item at an offset that exists already is an error: only one run at a time numbers the items.
insert into {schema}.stream_items (workflow_id, key, item_offset, branch, position, ordinal, attempt, at_ms, value)
select * from unnest(
    :workflow_id::text[], :key::text[], :item_offset::bigint[], :branch::text[], :position::bigint[],
    :ordinal::bigint[], :attempt::bigint[], :at_ms::bigint[], :value::text[]
);

-- name: close_streams
-- A stream that is closed already keeps its time.
insert into {schema}.closed_streams (workflow_id, key, closed_at_ms)
select workflow_id, key, :at_ms::bigint
from unnest(:workflow_id::text[], :key::text[]) as c (workflow_id, key)
on conflict (workflow_id, key) do nothing;

-- name: read_item_places
-- A history needs the positions of the items that the workflow itself wrote, but not their values.
select workflow_id, key, branch, position, ordinal, at_ms
from {schema}.stream_items
where workflow_id = any(:workflow_ids::text[]) and attempt is null;

-- name: stream_lengths
-- The offset of each stream's last item, also if a step wrote it; unlike a count, it cannot overflow. The query jumps
-- from key to key and to the end of each stream. Its cost depends on the number of streams, not on their length.
with recursive streams as (
    select w.workflow_id, first.key
    from unnest(:workflow_ids::text[]) as w (workflow_id)
    cross join lateral (
        select i.key from {schema}.stream_items as i where i.workflow_id = w.workflow_id order by i.key limit 1
    ) as first
    union all
    select s.workflow_id, following.key
    from streams as s
    cross join lateral (
        select i.key from {schema}.stream_items as i
        where i.workflow_id = s.workflow_id and i.key > s.key
        order by i.key
        limit 1
    ) as following
)
select s.workflow_id, s.key, last.item_offset
from streams as s
cross join lateral (
    select i.item_offset from {schema}.stream_items as i
    where i.workflow_id = s.workflow_id and i.key = s.key
    order by i.item_offset desc
    limit 1
) as last;

-- name: closed_streams
select workflow_id, key from {schema}.closed_streams where workflow_id = any(:workflow_ids::text[]);

-- name: read_streams
-- In the order of the input. One statement, so that values, length, closing and status come from one snapshot. With two
-- statements a workflow could write and end in between, and the reader would miss its last value.
-- A length is one lookup at the end of the index, never a count.
select
    case when p.item_offset <= s.last_offset then
        {schema}.page_of_stream(p.workflow_id, p.key, p.item_offset, :limit::bigint, :max_bytes::bigint)
    end,
    s.last_offset,
    exists (select from {schema}.closed_streams as c where c.workflow_id = p.workflow_id and c.key = p.key),
    w.status
from unnest(:workflow_id::text[], :key::text[], :item_offset::bigint[])
    with ordinality as p (workflow_id, key, item_offset, number)
left join {schema}.workflows as w on w.workflow_id = p.workflow_id
left join lateral (
    select i.item_offset as last_offset from {schema}.stream_items as i
    where i.workflow_id = p.workflow_id and i.key = p.key
    order by i.item_offset desc
    limit 1
) as s on true
order by p.number;

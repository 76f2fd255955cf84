-- name: send_messages
-- Messages are ordered by `seq`, which is drawn in the order of the input. Rows are inserted in the order of their
-- keys, so that two executors that send under the same idempotency keys do not deadlock. If a key was used before for
-- this destination, nothing is inserted.
with given as materialized (
    select nextval('{schema}.messages_seq') as seq, *
    from unnest(
        :destination_id::text[], :topic::text[], :body::text[], :sender_id::text[], :idempotency_key::text[],
        :sent_at_ms::bigint[]
    ) as n (destination_id, topic, body, sender_id, idempotency_key, sent_at_ms)
)
insert into {schema}.messages (seq, destination_id, topic, body, sender_id, idempotency_key, sent_at_ms)
select seq, destination_id, topic, body, sender_id, idempotency_key, sent_at_ms
from given
order by destination_id collate "C", idempotency_key collate "C", seq
on conflict (destination_id, idempotency_key) where idempotency_key is not null do nothing;

-- name: take_messages
-- The n-th take of a workflow and topic in the batch gets the n-th oldest unread message, if there is one. The message
-- is marked read by the take's position, and the entry there refers to the message. A condition like "newer than the
-- last one" would be wrong: commits land out of order.
-- No other process takes these messages: only the executor whose fence this batch checked owns the runs.
-- The two arms do the same; one with `is not distinct from` could not use the index. In the second arm
-- `order by topic, seq` gives the order of seq, written so that the planner can use the index.
with wanted as (
    select t.*, row_number() over (partition by t.workflow_id, t.topic order by t.number) as nth
    from unnest(:workflow_id::text[], :topic::text[], {entry_values})
        with ordinality as t (workflow_id, topic, {entry_columns}, number)
),
sources as (
    select workflow_id, topic, count(*) as takes from wanted group by workflow_id, topic
),
waiting as (
    select s.workflow_id, s.topic, m.seq, row_number() over (partition by s.workflow_id, s.topic order by m.seq) as nth
    from sources as s
    cross join lateral (
        (
            select seq from {schema}.messages
            where destination_id = s.workflow_id and topic = s.topic and read_by_branch is null
            order by seq
            limit s.takes
        )
        union all
        (
            select seq from {schema}.messages
            where s.topic is null and destination_id = s.workflow_id and topic is null and read_by_branch is null
            order by topic, seq
            limit s.takes
        )
    ) as m
),
pairs as materialized (
    select wanted.*, waiting.seq
    from wanted
    join waiting
        on waiting.workflow_id = wanted.workflow_id
        and waiting.topic is not distinct from wanted.topic
        and waiting.nth = wanted.nth
),
taken as (
    update {schema}.messages as m
    set read_by_branch = pairs.branch, read_by_position = pairs.position
    from pairs
    where m.seq = pairs.seq
    returning pairs.number, m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
),
recorded as (
    insert into {schema}.entries as e (workflow_id, message_seq, {entry_columns})
    select workflow_id, seq, {entry_columns} from pairs
    {entry_upsert}
)
select number, seq, body, topic, sender_id, sent_at_ms from taken;

-- name: take_seen_messages
-- Messages that a look ahead has seen, each named by its number. Only the executor whose fence this batch checked takes
-- them, so all exist and are unread. If not, the caller is wrong, and nothing is written.
-- The check for unread uses the position, which has no index. With the branch, the planner would use the index of
-- unread messages and walk through all of it.
with taken as (
    update {schema}.messages as m
    set read_by_branch = t.branch, read_by_position = t.position
    from unnest(:workflow_id::text[], :seq::bigint[], :branch::text[], :position::bigint[])
        as t (workflow_id, seq, branch, position)
    where m.seq = t.seq and m.destination_id = t.workflow_id and m.read_by_position is null
    returning 1
),
recorded as (
    insert into {schema}.entries as e (workflow_id, message_seq, {entry_columns})
    select * from unnest(:workflow_id::text[], :seq::bigint[], {entry_values})
    {entry_upsert}
)
select {schema}.refuse('TD003') where (select count(*) from taken) <> cardinality(:seq::bigint[]);

-- name: see_messages
-- The messages after those that the takes of this batch took; this later statement finds the taken ones read. It stops
-- where a run would keep too much. The two arms are those of `take_messages`. A long body is fetched only once it is
-- known to be wanted: its length is known without it.
select w.number, m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from unnest(:number::bigint[], :workflow_id::text[], :topic::text[], :ahead::bigint[])
    as w (number, workflow_id, topic, ahead)
cross join lateral (
    select *, sum(octet_length(body)) over (order by seq) as bytes
    from (
        (
            select seq, body, topic, sender_id, sent_at_ms from {schema}.messages
            where destination_id = w.workflow_id and topic = w.topic and read_by_branch is null
            order by seq
            limit w.ahead
        )
        union all
        (
            select seq, body, topic, sender_id, sent_at_ms from {schema}.messages
            where w.topic is null and destination_id = w.workflow_id and topic is null and read_by_branch is null
            order by topic, seq
            limit w.ahead
        )
    ) as waiting
) as m
where m.bytes <= :max_bytes::bigint
order by w.number, m.seq;

-- name: put_back_messages
update {schema}.messages as m set read_by_branch = null, read_by_position = null
from unnest(:workflow_id::text[], :seq::bigint[]) as p (workflow_id, seq)
where m.seq = p.seq and m.destination_id = p.workflow_id;

-- name: messages_taken_at
-- The messages that the takes of a batch found, for a batch that landed without an answer.
select p.number, m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from unnest(:workflow_id::text[], :branch::text[], :position::bigint[])
    with ordinality as p (workflow_id, branch, position, number)
join {schema}.entries as e
    on e.workflow_id = p.workflow_id and e.branch = p.branch and e.position = p.position
join {schema}.messages as m on m.seq = e.message_seq;

-- name: read_messages
-- No row: no such workflow. One row without a number: no message in this part. Unread messages have an index, and the
-- workflow's entries refer to the read ones, so messages need no other index. A message counts as read only by the
-- entry whose position it names.
select page.seq, page.topic, page.body, page.sender_id, page.idempotency_key, page.sent_at_ms, page.read_by
from {schema}.workflows as w
left join lateral (
    select * from (
        select seq, topic, body, sender_id, idempotency_key, sent_at_ms, null::bigint as read_by
        from {schema}.messages
        where destination_id = w.workflow_id and read_by_branch is null
        union all
        select m.seq, m.topic, m.body, m.sender_id, m.idempotency_key, m.sent_at_ms, e.ordinal
        from {schema}.entries as e
        join {schema}.messages as m
            on m.seq = e.message_seq
            and m.destination_id = e.workflow_id
            and m.read_by_branch = e.branch
            and m.read_by_position = e.position
        where e.workflow_id = w.workflow_id
    ) as sent
    order by seq
    limit :limit::bigint offset :offset::bigint
) as page on true
where w.workflow_id = :workflow_id::text
order by page.seq;

-- name: count_unread
-- For workflows that have ended. Counting stops at `MOST_COUNTED`.
select wanted.workflow_id, counted.unread
from unnest(:workflow_ids::text[]) as wanted (workflow_id)
cross join lateral (
    select count(*) as unread from (
        select from {schema}.messages
        where destination_id = wanted.workflow_id and read_by_branch is null
        limit :most::bigint
    ) as m
) as counted
where counted.unread > 0;

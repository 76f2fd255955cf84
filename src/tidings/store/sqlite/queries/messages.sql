-- name: send_message
-- Messages are ordered by `seq`. If the key was used before for this destination, nothing is inserted.
insert into tidings_messages (
    destination_seq, topic, body, sender_id, idempotency_key, sent_at_ms
) values ((select seq from tidings_workflows where workflow_id = ?), ?, ?, ?, ?, ?)
on conflict (destination_seq, idempotency_key) where idempotency_key is not null do nothing;

-- name: take_message
-- IS, because `topic` is NULL for a message without a topic; IS can use the index of unread messages too.
update tidings_messages set read_by_branch = ?, read_by_position = ?
where seq = (
    select m.seq from tidings_messages as m
    where m.destination_seq = (select seq from tidings_workflows where workflow_id = ?)
        and m.topic is ?
        and m.read_by_branch is null
    order by m.seq
    limit 1
)
returning seq, body, topic, sender_id, sent_at_ms;

-- name: take_seen_message
-- A message that a look ahead has seen. Only its run takes it, so it is unread. If not, the caller is wrong.
update tidings_messages set read_by_branch = ?, read_by_position = ?
where seq = ?
    and destination_seq = (select seq from tidings_workflows where workflow_id = ?)
    and read_by_branch is null;

-- name: see_messages
-- The reader fetches row by row and stops at the first message that is too much to keep.
select seq, body, topic, sender_id, sent_at_ms
from tidings_messages
where destination_seq = (select seq from tidings_workflows where workflow_id = ?)
    and topic is ?
    and read_by_branch is null
order by seq
limit ?;

-- name: put_back_message
update tidings_messages set read_by_branch = null, read_by_position = null
where seq = ? and destination_seq = (select seq from tidings_workflows where workflow_id = ?);

-- name: message_taken_at
-- The message that a take found, for a batch that landed without an answer.
select m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from tidings_entries as e
join tidings_messages as m on m.seq = e.message_seq
where e.workflow_seq = (select seq from tidings_workflows where workflow_id = ?)
    and e.branch = ? and e.position = ?;

-- name: read_messages
-- No row: no such workflow. One row without a number: no message in this part. Unread messages have an index, and the
-- workflow's entries refer to the read ones, so messages need no other index. A message counts as read only by the
-- entry whose position it names. The page is found by numbers first, so that no values are sorted.
with workflow as materialized (select seq from tidings_workflows where workflow_id = :workflow_id),
page as materialized (
    select seq, null as read_by
    from tidings_messages
    where destination_seq = (select seq from workflow) and read_by_branch is null
    union all
    select m.seq, e.ordinal
    from tidings_entries as e
    cross join tidings_messages as m
        on m.seq = e.message_seq
        and m.destination_seq = e.workflow_seq
        and m.read_by_branch = e.branch
        and m.read_by_position = e.position
    where e.workflow_seq = (select seq from workflow)
    order by seq
    limit coalesce(:limit, -1) offset :offset
)
select m.seq, m.topic, m.body, m.sender_id, m.idempotency_key, m.sent_at_ms, page.read_by
from workflow
left join page on true
left join tidings_messages as m on m.seq = page.seq
order by page.seq;

-- name: count_unread
-- For workflows that have ended. Counting stops at `MOST_COUNTED`.
select * from (
    select
        w.workflow_id,
        (
            select count(*) from (
                select 1 from tidings_messages as m where m.destination_seq = w.seq and m.read_by_branch is null limit ?
            )
        ) as unread
    from json_each(?) as wanted
    cross join tidings_workflows as w on w.workflow_id = wanted.value
)
where unread > 0;

-- name: send_message
-- The order of messages is the order of `seq`. A key used before for this destination: nothing.
insert into tidings_messages (
    destination_seq, topic, body, sender_id, idempotency_key, sent_at_ms
) values ((select seq from tidings_workflows where workflow_id = ?), ?, ?, ?, ?, ?)
on conflict (destination_seq, idempotency_key) where idempotency_key is not null do nothing;

-- name: take_message
-- IS, because a message without a topic has NULL there; the index of the unread serves both.
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
-- One that a look ahead has seen. Only the run takes what was sent to it, so it is unread: or the caller errs.
update tidings_messages set read_by_branch = ?, read_by_position = ?
where seq = ?
    and destination_seq = (select seq from tidings_workflows where workflow_id = ?)
    and read_by_branch is null;

-- name: see_messages
-- Read row by row, so that no more is read than is kept, and the one that is too much.
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
-- What a take found whose batch landed without an answer.
select m.seq, m.body, m.topic, m.sender_id, m.sent_at_ms
from tidings_entries as e
join tidings_messages as m on m.seq = e.message_seq
where e.workflow_seq = (select seq from tidings_workflows where workflow_id = ?)
    and e.branch = ? and e.position = ?;

-- name: read_messages
-- No row: no such workflow. One row without a number: no message in this part. The unread ones are in
-- their index, and those that were read are what the workflow's entries point at: messages need no
-- index more for it. A message counts as read by the one entry whose place it names. The page is found
-- by its numbers, so that no values are put in order.
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

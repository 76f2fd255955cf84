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

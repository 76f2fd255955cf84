-- The numbers that define order. SQLite gives the number after the highest that exists or ever existed. So one row near
-- the largest number leaves none, and every insert fails as if the disk were full. tidings never reaches 2^62: a number
-- from there on is damage.

-- name: has_far_numbers
select exists (select 1 from sqlite_sequence where name like 'tidings\_%' escape '\' and seq >= 4611686018427387904)
    or exists (select 1 from tidings_workflows where seq >= 4611686018427387904)
    or exists (select 1 from tidings_messages where seq >= 4611686018427387904)
    or exists (select 1 from tidings_wakes where id >= 4611686018427387904);

-- name: far_messages
select seq from tidings_messages where seq >= 4611686018427387904 order by seq;

-- name: far_workflows
select seq from tidings_workflows where seq >= 4611686018427387904 order by seq;

-- name: last_message
select coalesce(max(seq), 0) from tidings_messages where seq < 4611686018427387904;

-- name: last_workflow
select coalesce(max(seq), 0) from tidings_workflows where seq < 4611686018427387904;

-- name: renumber_message
update tidings_messages set seq = :seq where seq = :former;

-- name: renumber_message_in_entries
update tidings_entries set message_seq = :seq
where message_seq = :former
    and workflow_seq = (select destination_seq from tidings_messages where seq = :seq);

-- name: renumber_workflow
update tidings_workflows set seq = :seq where seq = :former;

-- name: renumber_entries
update tidings_entries set workflow_seq = :seq where workflow_seq = :former;

-- name: renumber_destinations
update tidings_messages set destination_seq = :seq where destination_seq = :former;

-- name: renumber_events
update tidings_events set workflow_seq = :seq where workflow_seq = :former;

-- name: renumber_items
update tidings_stream_items set workflow_seq = :seq where workflow_seq = :former;

-- name: renumber_closed_streams
update tidings_closed_streams set workflow_seq = :seq where workflow_seq = :former;

-- name: remove_far_wakes
-- Wakes are only hints. Listeners treat the missing rows as missed names and let all waiters look (see `listener`).
delete from tidings_wakes where id >= 4611686018427387904;

-- name: begin_numbers_anew
-- SQLite itself ensures that the next number is higher than all that exist.
update sqlite_sequence set seq = 0 where name like 'tidings\_%' escape '\' and seq >= 4611686018427387904;

-- Deleting a workflow's row by any means deletes all rows that belong to it.
--
-- No foreign keys: SQLite enforces them only on a connection that asks for it, and the connection of a person at a
-- shell does not. A trigger costs only those who delete. A migration that creates the table again must create it again,
-- too. Entries refer to the messages that were read; the unread messages are in an index.

create trigger tidings_remove_belongings after delete on tidings_workflows
begin
    delete from tidings_messages
    where seq in (select message_seq from tidings_entries where workflow_seq = old.seq) and destination_seq = old.seq;
    delete from tidings_messages where destination_seq = old.seq and read_by_branch is null;
    delete from tidings_messages where destination_seq = old.seq and idempotency_key is not null;
    delete from tidings_entries where workflow_seq = old.seq;
    delete from tidings_events where workflow_seq = old.seq;
    delete from tidings_stream_items where workflow_seq = old.seq;
    delete from tidings_closed_streams where workflow_seq = old.seq;
end;

-- Removes the leftovers of earlier deletions.
delete from tidings_messages where destination_seq not in (select seq from tidings_workflows);
delete from tidings_entries where workflow_seq not in (select seq from tidings_workflows);
delete from tidings_events where workflow_seq not in (select seq from tidings_workflows);
delete from tidings_stream_items where workflow_seq not in (select seq from tidings_workflows);
delete from tidings_closed_streams where workflow_seq not in (select seq from tidings_workflows);

-- What belongs to a workflow goes with its row, whoever deletes that.
--
-- No foreign keys: SQLite heeds them only where a connection asks for it, and a person's does not. A trigger
-- costs only those who delete. Whoever makes the table anew must make it anew, too.
-- Messages that were read are those that entries point at; the others are in an index.

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

-- What was left until now.
delete from tidings_messages where destination_seq not in (select seq from tidings_workflows);
delete from tidings_entries where workflow_seq not in (select seq from tidings_workflows);
delete from tidings_events where workflow_seq not in (select seq from tidings_workflows);
delete from tidings_stream_items where workflow_seq not in (select seq from tidings_workflows);
delete from tidings_closed_streams where workflow_seq not in (select seq from tidings_workflows);

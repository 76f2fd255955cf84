-- Deleting a workflow's row by any means deletes all rows that belong to it: a new workflow under its id finds nothing.
--
-- No foreign keys: every insert would look up and lock its workflow, so all commits would pay for something rare. A
-- trigger costs only those who delete. It runs once for each statement, not for each row.
-- Entries refer to the messages that were read; the unread messages are in an index.

create function {schema}.remove_belongings() returns trigger language plpgsql as $$
begin
    delete from {schema}.messages as m
    using {schema}.entries as e, gone
    where e.workflow_id = gone.workflow_id and m.seq = e.message_seq and m.destination_id = e.workflow_id;
    delete from {schema}.messages as m using gone
    where m.destination_id = gone.workflow_id and m.read_by_branch is null;
    delete from {schema}.messages as m using gone
    where m.destination_id = gone.workflow_id and m.idempotency_key is not null;
    delete from {schema}.entries as e using gone where e.workflow_id = gone.workflow_id;
    delete from {schema}.events as e using gone where e.workflow_id = gone.workflow_id;
    delete from {schema}.stream_items as i using gone where i.workflow_id = gone.workflow_id;
    delete from {schema}.closed_streams as c using gone where c.workflow_id = gone.workflow_id;
    return null;
end
$$;

create trigger remove_belongings after delete on {schema}.workflows
referencing old table as gone
for each statement execute function {schema}.remove_belongings();

create function {schema}.remove_all_belongings() returns trigger language plpgsql as $$
begin
    delete from {schema}.messages;
    delete from {schema}.entries;
    delete from {schema}.events;
    delete from {schema}.stream_items;
    delete from {schema}.closed_streams;
    return null;
end
$$;

create trigger remove_all_belongings after truncate on {schema}.workflows
for each statement execute function {schema}.remove_all_belongings();

-- Removes the leftovers of earlier deletions.
delete from {schema}.messages as m
where not exists (select from {schema}.workflows as w where w.workflow_id = m.destination_id);
delete from {schema}.entries as e
where not exists (select from {schema}.workflows as w where w.workflow_id = e.workflow_id);
delete from {schema}.events as e
where not exists (select from {schema}.workflows as w where w.workflow_id = e.workflow_id);
delete from {schema}.stream_items as i
where not exists (select from {schema}.workflows as w where w.workflow_id = i.workflow_id);
delete from {schema}.closed_streams as c
where not exists (select from {schema}.workflows as w where w.workflow_id = c.workflow_id);

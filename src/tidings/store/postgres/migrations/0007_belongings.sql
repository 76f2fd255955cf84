-- What belongs to a workflow goes with its row, whoever deletes that: a new workflow under the same id finds nothing.
--
-- No foreign keys: each row that is written would look its workflow up and lock it, and commits would pay for
-- what hardly ever happens. A trigger costs only those who delete. Once for a statement, not for each row.
-- Messages that were read are those that entries point at; the others are in an index.

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

-- What was left until now.
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

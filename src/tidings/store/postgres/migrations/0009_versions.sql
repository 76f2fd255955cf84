-- What lets a workflow continue under another version of the code.

-- The versions that could not continue the workflow, as a JSON array of objects: version, operation, reason, at_ms.
alter table {schema}.workflows add column stuck text;
create index workflows_stuck on {schema}.workflows (seq) where stuck is not null and status = 'PENDING';

-- What the operation is aimed at: a topic, a destination, the id that it awaits. A replay compares it.
alter table {schema}.entries add column target text collate "C";

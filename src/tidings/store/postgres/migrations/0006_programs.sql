-- Which program a workflow belongs to: programs of different names share a database and not their workflows.
-- Null: started before programs were told apart, so any of them may execute it, and then it is that one's.

alter table {schema}.workflows add column program text collate "C";

-- Which program it executes workflows of; null: none, or any.
alter table {schema}.executors add column program text collate "C";

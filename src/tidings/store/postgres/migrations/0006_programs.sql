-- The program that a workflow belongs to: programs with different names share a database, but not their workflows.
-- Null: started by a version without programs. Any program may execute it, and the first that does owns it then.

alter table {schema}.workflows add column program text collate "C";

-- The program whose workflows it executes; null: it executes none, or those of any program.
alter table {schema}.executors add column program text collate "C";

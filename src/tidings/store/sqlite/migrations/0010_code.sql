-- Which code a process executes. A version that the user chose may be that of changed code, which may continue a workflow
-- that the earlier code of this version could not.
alter table tidings_executors add column code_hash text;
alter table tidings_executors add column takes_other_versions integer not null default 0;

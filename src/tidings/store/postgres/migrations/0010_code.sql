-- Which code a process executes. A version that the user chose may be that of changed code, which may continue a workflow
-- that the earlier code of this version could not.
alter table {schema}.executors add column code_hash text collate "C";
alter table {schema}.executors add column takes_other_versions boolean not null default false;

-- As jsonb, it cannot be damaged so that a claim, which searches it, fails for all workflows.
drop index {schema}.workflows_stuck;
alter table {schema}.workflows alter column stuck type jsonb using stuck::jsonb;
create index workflows_stuck on {schema}.workflows (seq) where stuck is not null and status = 'PENDING';

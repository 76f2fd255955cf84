-- What operators and other processes need to know about executors, and how often a process died while it executed a
-- workflow.

alter table {schema}.executors
    -- The length of its lease: other processes declare it dead after so long without a batch.
    add column lease_ms bigint not null default 10000,
    add column host text not null default '',
    add column pid bigint not null default 0,
    add column started_at_ms bigint not null default 0,
    -- The version of the code with which it executes workflows; null: it executes none.
    add column app_version text collate "C";

alter table {schema}.workflows
    -- How often a process died while it executed the workflow, since the workflow last recorded anything new.
    add column recovery_attempts bigint not null default 0,
    -- How many operations the workflow had recorded at its last recovery.
    add column progress bigint not null default 0;

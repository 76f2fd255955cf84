-- What operators and survivors ask of executors, and how often the death of its process has cost a
-- workflow a run.

alter table {schema}.executors
    -- How long its lease is: who watches it waits so long for a sign of life.
    add column lease_ms bigint not null default 10000,
    add column host text not null default '',
    add column pid bigint not null default 0,
    add column started_at_ms bigint not null default 0,
    -- Of the code that it executes workflows with; null: it executes none.
    add column app_version text collate "C";

alter table {schema}.workflows
    -- Deaths of a process that executed it, since it last got on.
    add column recovery_attempts bigint not null default 0,
    -- How many operations it had recorded when it was last recovered.
    add column progress bigint not null default 0;

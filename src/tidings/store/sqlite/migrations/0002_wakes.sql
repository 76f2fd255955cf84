-- What other processes are woken for. A row is a hint that something has changed, never the change.

create table tidings_wakes (
    -- AUTOINCREMENT: a number is never used twice, so a listener that finds its last one gone knows
    -- that it has missed some.
    id integer primary key autoincrement,
    executor_id text not null,
    at_ms integer not null,
    names text not null
) strict;

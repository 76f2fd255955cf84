-- What other processes are woken for. A row is a hint that something has changed, never the change.

create table tidings_wakes (
    -- AUTOINCREMENT: numbers follow one another and none is used twice, so a listener that finds
    -- another than the next one knows that it has missed some.
    id integer primary key autoincrement,
    executor_id text not null,
    at_ms integer not null,
    names text not null
) strict;

-- Names that wake waiters in other processes. A row is only a hint that something has changed.

create table tidings_wakes (
    -- AUTOINCREMENT: numbers follow one another and none is used twice. So a listener that does not find the next
    -- number knows that it missed some.
    id integer primary key autoincrement,
    executor_id text not null,
    at_ms integer not null,
    names text not null
) strict;

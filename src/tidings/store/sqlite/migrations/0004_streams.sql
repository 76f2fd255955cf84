-- Stream items, one row each, and which streams are closed.
--
-- The table keeps its rowids, as the others do. Compared with a table WITHOUT ROWID, in batches of 1,000:
-- * Appends to one stream are as fast, and twice as fast with values of 2 kB: in a table WITHOUT ROWID, a row longer
--   than about 1 kB takes a page of its own.
-- * Appends to a hundred streams in turn write one to two thirds as much to the log. Items go to the end of the table,
--   whatever their stream, and only the narrow index is written in a hundred places.
-- The cost: the file is up to a third larger if values are small. Reads of one of a hundred such streams run at half
-- the speed, still 400,000 items a second.

create table tidings_stream_items (
    workflow_seq integer not null,
    key text not null,
    item_offset integer not null,  -- from 0, without gaps
    -- The position of the operation that wrote it, and the attempt's number if that was a step. If the attempt is null,
    -- the workflow wrote the item, and the row is the operation's entry.
    branch text not null,
    position integer not null,
    ordinal integer not null,
    attempt integer,
    at_ms integer not null,
    value text not null,
    unique (workflow_seq, key, item_offset)
) strict;

-- Only closed streams have a row. A stream that its workflow left open when it ended has none, but counts as closed.
create table tidings_closed_streams (
    workflow_seq integer not null,
    key text not null,
    closed_at_ms integer not null,
    primary key (workflow_seq, key)
) strict, without rowid;

-- Stream items, one row each, and which streams are closed.
--
-- The key is the only index: a page of a stream, its length, and everything a workflow wrote are ranges of it.

create table {schema}.stream_items (
    workflow_id text collate "C" not null,
    key text collate "C" not null,
    item_offset bigint not null, -- from 0, without gaps
    -- The position of the operation that wrote it, and the attempt's number if that was a step. If the attempt is null,
    -- the workflow wrote the item, and the row is the operation's entry.
    branch text collate "C" not null,
    position bigint not null,
    ordinal bigint not null,
    attempt bigint,
    at_ms bigint not null,
    value text not null,
    primary key (workflow_id, key, item_offset)
);

-- Only closed streams have a row. A stream that its workflow left open when it ended has none, but counts as closed.
create table {schema}.closed_streams (
    workflow_id text collate "C" not null,
    key text collate "C" not null,
    closed_at_ms bigint not null,
    primary key (workflow_id, key)
);

-- A page of one stream: the values from an offset on, up to `max_items`, and none after they take `max_bytes`. It reads
-- nothing after the page, except a few rows that the loop fetches ahead. Plain SQL cannot stop at a sum: it would add
-- up the lengths of all possible rows, for each of them. STABLE: it sees the snapshot of the calling statement.
create function {schema}.page_of_stream(
    of_workflow text, of_key text, from_offset bigint, max_items bigint, max_bytes bigint
) returns text[] language plpgsql stable as $$
declare
    page text[] := '{}';
    bytes bigint := 0;
    expected bigint := from_offset;
    found_offset bigint;
    found_value text;
begin
    for found_offset, found_value in
        select item_offset, value from {schema}.stream_items
        where workflow_id = of_workflow and key = of_key and item_offset >= from_offset
        order by item_offset
        limit max_items
    loop
        exit when found_offset <> expected;
        page := page || found_value;
        -- The length of a large value is known without fetching it.
        bytes := bytes + octet_length(found_value);
        exit when bytes >= max_bytes;
        expected := expected + 1;
    end loop;
    return page;
end
$$;

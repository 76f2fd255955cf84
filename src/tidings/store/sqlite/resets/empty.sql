-- Removes all rows, those of workflows last: their trigger searches the other tables for rows that belong to them.

delete from tidings_closed_streams;
delete from tidings_stream_items;
delete from tidings_events;
delete from tidings_messages;
delete from tidings_entries;
delete from tidings_workflows;
delete from tidings_executors;
delete from tidings_wakes;

-- Removes everything that migrations made, and nothing else in the file.

drop table if exists tidings_closed_streams;
drop table if exists tidings_stream_items;
drop table if exists tidings_events;
drop table if exists tidings_messages;
drop table if exists tidings_entries;
drop table if exists tidings_workflows;
drop table if exists tidings_executors;
drop table if exists tidings_wakes;
drop table if exists tidings_schema;

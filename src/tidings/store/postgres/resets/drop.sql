-- Removes everything that migrations made. The schema stays: it may hold other things, and this user may not be able to
-- create it again. Without CASCADE, so that a view of another owner is an error that names the view.

drop table if exists
    {schema}.closed_streams, {schema}.stream_items, {schema}.events, {schema}.messages, {schema}.entries,
    {schema}.workflows, {schema}.executors, {schema}.schema_version;
drop sequence if exists {schema}.workflows_seq, {schema}.messages_seq;
drop function if exists
    {schema}.refuse, {schema}.page_of_stream, {schema}.remove_belongings, {schema}.remove_all_belongings;

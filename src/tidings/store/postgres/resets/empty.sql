-- Removes all rows. The sequences continue, so that no number is given twice.

truncate
    {schema}.closed_streams, {schema}.stream_items, {schema}.events, {schema}.messages, {schema}.entries,
    {schema}.workflows, {schema}.executors;

-- Gives every table a primary key. Logical replication identifies rows by it. A table without one rejects updates if
-- all tables are published (`create publication ... for all tables`, for example to switch to another server).
alter table {schema}.schema_version add primary key (version);

-- A person who deletes workflows by hand has other settings. Names in these functions must mean the server's own.
alter function {schema}.remove_belongings() set search_path = pg_catalog, pg_temp;
alter function {schema}.remove_all_belongings() set search_path = pg_catalog, pg_temp;

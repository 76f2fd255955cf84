-- name: has_schema
select 1 from sqlite_master where type = 'table' and name = 'tidings_schema';

-- name: schema_version
select version from tidings_schema;

-- name: set_schema_version
update tidings_schema set version = ?;

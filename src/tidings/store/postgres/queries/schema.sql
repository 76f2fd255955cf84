-- name: has_schema
select exists (select from pg_catalog.pg_namespace where nspname = :name::text);

-- name: has_version
select exists (
    select from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = :name::text and c.relname = 'schema_version'
);

-- name: schema_version
select version from {schema}.schema_version;

-- name: set_schema_version
update {schema}.schema_version set version = :version::integer;

-- name: create_schema
create schema {schema};

-- name: lock_migrations
-- Held to the end of the transaction. The key is made from the schema's name.
select pg_advisory_xact_lock(hashtextextended('tidings: migrate ' || :name::text, 0));

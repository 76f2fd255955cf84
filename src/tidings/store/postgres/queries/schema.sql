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

-- name: missing_rights
-- The rights that this user needs and lacks, each as the statement that grants it. Reads the catalogs, because a user
-- without rights on the schema cannot look names up in it. Skips what does not exist yet. Rights on columns count as
-- rights on the table.
with space as (
    select oid, nspname from pg_catalog.pg_namespace where nspname = :name::text
),
needed (relation, rights) as (
    values
        ('schema_version', 'select'),
        ('workflows', 'select,insert,update,delete'),
        ('entries', 'select,insert,update,delete'),
        ('messages', 'select,insert,update,delete'),
        ('events', 'select,insert,delete'),
        ('stream_items', 'select,insert,delete'),
        ('closed_streams', 'select,insert,delete'),
        ('executors', 'select,insert,update,delete')
),
lacking as (
    select format('grant usage on schema %I to %I', nspname, current_user) as remedy
    from space
    where not has_schema_privilege(oid, 'usage')
    union all
    select format('grant %s on %I.%I to %I', string_agg(r.name, ', '), s.nspname, c.relname, current_user)
    from space as s
    join pg_catalog.pg_class as c on c.relnamespace = s.oid and c.relkind in ('r', 'p')
    join needed on needed.relation = c.relname
    cross join unnest(string_to_array(needed.rights, ',')) as r (name)
    where not has_table_privilege(c.oid, r.name)
        and not (r.name <> 'delete' and has_any_column_privilege(c.oid, case r.name when 'delete' then 'select' else r.name end))
    group by s.nspname, c.relname
    union all
    select format('grant usage on sequence %I.%I to %I', s.nspname, c.relname, current_user)
    from space as s
    join pg_catalog.pg_class as c
        on c.relnamespace = s.oid and c.relkind = 'S' and c.relname in ('workflows_seq', 'messages_seq')
    where not has_sequence_privilege(c.oid, 'usage,update')
    union all
    select format('grant execute on function %s to %I', p.oid::regprocedure, current_user)
    from space as s
    join pg_catalog.pg_proc as p on p.pronamespace = s.oid and p.proname in ('refuse', 'page_of_stream')
    where not has_function_privilege(p.oid, 'execute')
)
select string_agg(remedy, '; ' order by remedy) from lacking;

-- The numbers that define order, and the repair if a sequence is not ahead of its table. That happens after a restore
-- or a switch of servers that carried no sequences, or if somebody inserted rows by hand or changed a sequence. tidings
-- never reaches 2^62: a number from there on is damage.

-- name: numbers_amiss
-- Each sequence that is not ahead of its table, or is exhausted, or is not defined as in the first migration.
-- `last_value` is NULL if the sequence gave no number yet, or this user may not read it.
select
    sequence, highest, coalesce(last_value, 0),
    increment_by = 1 and cache_size = 1 and not cycle and min_value = 1 and max_value = 9223372036854775807 as is_sound
from (
    select 'messages_seq' as sequence, (select coalesce(max(seq), 0) from {schema}.messages) as highest
    union all
    select 'workflows_seq', (select coalesce(max(seq), 0) from {schema}.workflows)
) as numbered
join pg_catalog.pg_sequences as s on s.sequencename = numbered.sequence and s.schemaname = :schema::text
where highest > coalesce(last_value, 0)
    or last_value >= 4611686018427387904
    or not (increment_by = 1 and cache_size = 1 and not cycle and min_value = 1 and max_value = 9223372036854775807);

-- name: lock_messages
-- No process can draw a number meanwhile: a statement locks its tables before it runs. So no number is given twice, and
-- no number drawn while the sequence was too low is committed after the sequence was set.
lock table {schema}.messages in share row exclusive mode;

-- name: lock_starts
lock table {schema}.workflows in share row exclusive mode;

-- name: define_messages_seq
-- A cache, counting down or cycling would each let sessions draw numbers out of order.
alter sequence {schema}.messages_seq increment by 1 minvalue 1 no maxvalue restart with 1 cache 1 no cycle;

-- name: define_workflows_seq
alter sequence {schema}.workflows_seq increment by 1 minvalue 1 no maxvalue restart with 1 cache 1 no cycle;

-- name: set_messages_seq
-- `last` is the last number that the sequence gave before it was defined again.
select setval('{schema}.messages_seq', greatest(
    (select max(seq) from {schema}.messages where seq < 4611686018427387904),
    (
        select last_value from pg_catalog.pg_sequences
        where sequencename = 'messages_seq' and schemaname = :schema::text and last_value < 4611686018427387904
    ),
    :last::bigint,
    1
));

-- name: set_workflows_seq
select setval('{schema}.workflows_seq', greatest(
    (select max(seq) from {schema}.workflows where seq < 4611686018427387904),
    (
        select last_value from pg_catalog.pg_sequences
        where sequencename = 'workflows_seq' and schemaname = :schema::text and last_value < 4611686018427387904
    ),
    :last::bigint,
    1
));

-- name: renumber_messages
-- Moves them after all others, in their order: messages sent from now on come after them.
with far as materialized (
    select seq as former, nextval('{schema}.messages_seq') as seq from (
        select seq from {schema}.messages where seq >= 4611686018427387904 order by seq
    ) as ordered
),
moved as (
    update {schema}.messages as m set seq = far.seq from far where m.seq = far.former
    returning m.destination_id, far.former, far.seq
)
update {schema}.entries as e set message_seq = moved.seq
from moved
where e.workflow_id = moved.destination_id and e.message_seq = moved.former;

-- name: renumber_workflows
with far as materialized (
    select seq as former, nextval('{schema}.workflows_seq') as seq from (
        select distinct seq from {schema}.workflows where seq >= 4611686018427387904 order by seq
    ) as ordered
)
update {schema}.workflows as w set seq = far.seq from far where w.seq = far.former;

-- name: draw_messages_seq
-- The same as setting the sequence, number by number, for a user who may only draw numbers.
select max(nextval('{schema}.messages_seq')) from generate_series(1, :count::bigint);

-- name: draw_workflows_seq
select max(nextval('{schema}.workflows_seq')) from generate_series(1, :count::bigint);

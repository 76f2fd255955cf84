-- The numbers that make order, and what is done where they are not ahead of all that is there: after a restore or a
-- switch that carried no sequences, or where somebody has put rows in by hand.
-- A number from 2^62 on is nobody's: as good as none come after it.

-- name: numbers_behind
-- Of each sequence that is not ahead of its table. NULL: it gave no number yet, or this user may not look.
select sequence, highest, coalesce(last_value, 0)
from (
    select 'messages_seq' as sequence, (select max(seq) from {schema}.messages) as highest
    union all
    select 'workflows_seq', (select max(seq) from {schema}.workflows)
) as numbered
left join pg_catalog.pg_sequences as s
    on s.sequencename = numbered.sequence and s.schemaname = :schema::text
where highest > coalesce(last_value, 0);

-- name: lock_messages
-- Nobody draws a number meanwhile: a statement locks its tables before it runs. So no number that was given is given
-- again, and none that is drawn while the sequence is behind is committed after it was set.
lock table {schema}.messages in share row exclusive mode;

-- name: lock_starts
lock table {schema}.workflows in share row exclusive mode;

-- name: set_messages_seq
select setval('{schema}.messages_seq', greatest(
    (select max(seq) from {schema}.messages where seq < 4611686018427387904),
    (select last_value from pg_catalog.pg_sequences where sequencename = 'messages_seq' and schemaname = :schema::text),
    1
));

-- name: set_workflows_seq
select setval('{schema}.workflows_seq', greatest(
    (select max(seq) from {schema}.workflows where seq < 4611686018427387904),
    (select last_value from pg_catalog.pg_sequences where sequencename = 'workflows_seq' and schemaname = :schema::text),
    1
));

-- name: renumber_messages
-- In their order, behind all others: what is sent from now on comes after them.
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
-- What setting does, number by number, for a user who may only draw them.
select max(nextval('{schema}.messages_seq')) from generate_series(1, :count::bigint);

-- name: draw_workflows_seq
select max(nextval('{schema}.workflows_seq')) from generate_series(1, :count::bigint);

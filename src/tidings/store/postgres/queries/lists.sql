-- Lists of workflows. A plan is made once, for any values (see `settings`), so a condition that may be absent cannot
-- use an index. So each useful index has a statement of its own, and `store.lists` picks one.

-- part: listed_columns
-- The columns of a `WorkflowRecord`, in its order. A large value that is left out is not fetched.
workflow_id, status, name,
case when :with_inputs::boolean then inputs end,
case when :with_outputs::boolean then output end,
case when :with_outputs::boolean then error end,
{workflow_fields}

-- part: matching
-- An id begins with the prefix if it lies between the two bounds. LIKE would need the prefix escaped.
(:statuses::text[] is null or status = any(:statuses::text[]))
and (:names::text[] is null or name = any(:names::text[]))
and (:from_ms::bigint is null or created_at_ms >= :from_ms::bigint)
and (:until_ms::bigint is null or created_at_ms <= :until_ms::bigint)
and (:app_version::text is null or app_version = :app_version::text)
and (:parent_id::text is null or parent_id = :parent_id::text)
and (:executor_id::text is null or executor_id = :executor_id::text)
and (:id_from::text is null or workflow_id >= :id_from::text)
and (:id_before::text is null or workflow_id < :id_before::text)
and (:is_stuck::boolean is null or :is_stuck::boolean = ({stuck_now}))

-- part: stuck_now
-- Some version could not continue it, and nobody does now.
stuck is not null and status = 'PENDING' and executor_id is null

-- part: in_order
order by case when :newest_first::boolean then -seq else seq end

-- part: page
limit :limit::bigint offset :offset::bigint

-- name: list_by_ids
select {listed_columns}
from {schema}.workflows
where workflow_id = any(:workflow_ids::text[]) and {matching}
{in_order}
{page};

-- name: list_by_parent
select {listed_columns}
from {schema}.workflows
where parent_id = :parent_id::text and {matching}
{in_order}
{page};

-- name: list_by_prefix
select {listed_columns}
from {schema}.workflows
where workflow_id >= :id_from::text and workflow_id < :id_before::text and {matching}
{in_order}
{page};

-- name: list_pending
-- Sorts all pending workflows: they are few, compared to those that have ended.
select {listed_columns}
from {schema}.workflows
where status = 'PENDING' and {matching}
{in_order}
{page};

-- name: list_stuck
-- Few, and in an index of their own.
select {listed_columns}
from {schema}.workflows
where stuck is not null and status = 'PENDING' and {matching}
{in_order}
{page};

-- name: list_oldest
-- Walks through the index in order, and stops when the page is full.
select {listed_columns}
from {schema}.workflows
where {matching}
order by seq
{page};

-- name: list_newest
-- The same, from the end.
select {listed_columns}
from {schema}.workflows
where {matching}
order by seq desc
{page};

-- Lists of workflows. A condition that may be absent cannot use an index. So each useful index has a statement of its
-- own, and `store.lists` picks one. A list that must be sorted finds the numbers of its page first, so that no values are
-- sorted.

-- part: listed
-- The columns of a `WorkflowRecord`, in its order. Values that may be left out are last in a row; then SQLite does not
-- read them.
select
    workflow_id, status, name,
    case when :with_inputs then inputs end,
    case when :with_outputs then output end,
    case when :with_outputs then error end,
    {workflow_fields}
from tidings_workflows

-- part: matching
-- An id begins with the prefix if it lies between the two bounds. LIKE and GLOB would need the prefix escaped.
(:statuses is null or status in (select value from json_each(:statuses)))
and (:names is null or name in (select value from json_each(:names)))
and (:from_ms is null or created_at_ms >= :from_ms)
and (:until_ms is null or created_at_ms <= :until_ms)
and (:app_version is null or app_version = :app_version)
and (:parent_id is null or parent_id = :parent_id)
and (:executor_id is null or executor_id = :executor_id)
and (:id_from is null or workflow_id >= :id_from)
and (:id_before is null or workflow_id < :id_before)
and (:is_stuck is null or :is_stuck = ({stuck_now}))

-- part: stuck_now
-- Some version could not continue it, and nobody does now.
stuck is not null and status = 'PENDING' and executor_id is null

-- part: in_order
order by case when :newest_first then -seq else seq end

-- part: page
limit coalesce(:limit, -1) offset :offset

-- name: list_by_ids
{listed}
where seq in (
    select seq from tidings_workflows
    where workflow_id in (select value from json_each(:workflow_ids)) and {matching}
    {in_order}
    {page}
)
{in_order};

-- name: list_by_parent
{listed}
where seq in (
    select seq from tidings_workflows
    where parent_id = :parent_id and {matching}
    {in_order}
    {page}
)
{in_order};

-- name: list_by_prefix
{listed}
where seq in (
    select seq from tidings_workflows
    where workflow_id >= :id_from and workflow_id < :id_before and {matching}
    {in_order}
    {page}
)
{in_order};

-- name: list_pending
-- Sorts all pending workflows: they are few, compared to those that have ended.
{listed}
where seq in (
    select seq from tidings_workflows
    where status = 'PENDING' and {matching}
    {in_order}
    {page}
)
{in_order};

-- name: list_stuck
-- Few, and in an index of their own.
{listed}
where seq in (
    select seq from tidings_workflows
    where stuck is not null and status = 'PENDING' and {matching}
    {in_order}
    {page}
)
{in_order};

-- name: list_oldest
-- Walks through the table in order, and stops when the page is full.
{listed}
where {matching}
order by seq
{page};

-- name: list_newest
-- The same, from the end.
{listed}
where {matching}
order by seq desc
{page};

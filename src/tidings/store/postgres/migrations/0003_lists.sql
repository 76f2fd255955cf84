-- What timeouts and methods keep with a workflow, and the indexes that lists go by.

alter table {schema}.workflows
    add column class_name text collate "C", -- the class whose method it is
    add column config_name text collate "C", -- and the configured instance it was called on
    add column timeout_ms bigint, -- from its start to its end
    add column deadline_ms bigint; -- when that is over

-- Lists are in this order, so a page of the newest is the end of this index. Not unique: the numbers
-- are drawn from a sequence, and a check of every start would find nothing.
create index workflows_in_order on {schema}.workflows (seq);

-- Without the number: the entries of one parent's children are then alike, and stored once for many.
create index workflows_by_parent on {schema}.workflows (parent_id) where parent_id is not null;

-- Messages get no index of all that one workflow was sent. A message would be put into it twice, when
-- it is sent and when it is read, for the sake of somebody who looks now and then. The look does
-- without: what is unread is in `messages_unread`, and what was read is what the workflow's entries
-- point at.

-- Columns for timeouts and methods, and the indexes for lists.

alter table {schema}.workflows
    add column class_name text collate "C", -- the class, if the workflow is a method
    add column config_name text collate "C", -- the configured instance that the method was called on
    add column timeout_ms bigint, -- from its start to its end
    add column deadline_ms bigint; -- when the timeout is over

-- Lists are in this order, so a page of the newest workflows is the end of this index. It is not unique: the numbers
-- come from a sequence, and a check at every start would find nothing.
create index workflows_in_order on {schema}.workflows (seq);

-- Without the number: all children of one parent then have equal entries, which the index stores once.
create index workflows_by_parent on {schema}.workflows (parent_id) where parent_id is not null;

-- Messages get no index by workflow. Each message would be written to it twice, when it is sent and when it is read,
-- only for people who list messages now and then. Such a list needs none: unread messages are in `messages_unread`,
-- and the workflow's entries refer to the read ones.

-- name: add_wakes
insert into tidings_wakes (executor_id, at_ms, names) values (?, ?, ?);

-- name: prune_wakes
-- Runs in one transaction with `add_wakes`, so that the newest row always exists.
delete from tidings_wakes where at_ms < ? or at_ms > ?;

-- name: last_wake
select coalesce(max(id), (select seq from sqlite_sequence where name = 'tidings_wakes'), 0) from tidings_wakes;

-- name: read_wakes
select id, executor_id, names from tidings_wakes where id > ? order by id;

-- On PostgreSQL, processes wake each other by notifications, which need no table.
select 1;

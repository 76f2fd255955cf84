-- On SQLite every row has a number, and nothing replicates single tables: no table needs another primary key.
select 1;

-- name: begin
-- Whatever the server's default is: the arguments about fences and waiting rest on each statement
-- seeing what was committed before that statement.
begin isolation level read committed;

-- name: commit
commit;

-- name: rollback
rollback;

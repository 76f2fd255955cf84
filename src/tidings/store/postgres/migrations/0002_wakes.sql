-- Wake-ups of other processes are notifications here, which need no table.
select 1;

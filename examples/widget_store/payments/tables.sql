-- The payment service's own tables, in the SQL that SQLite and PostgreSQL share.

create table if not exists sessions (
    session_id text primary key,
    reference text not null,
    description text not null,
    amount_cents bigint not null,
    webhook_url text not null,
    success_url text not null,
    cancel_url text not null,
    status text not null
);

create table if not exists payments (
    session_id text primary key references sessions,
    amount_cents bigint not null
);

create table if not exists refunds (
    session_id text primary key references payments,
    amount_cents bigint not null
);

-- The shop's own tables, in the SQL that SQLite and PostgreSQL share. The workflows are recorded elsewhere.

create table if not exists products (
    product_id text primary key,
    name text not null,
    description text not null,
    price_cents bigint not null,
    inventory bigint not null check (inventory >= 0)
);

insert into products (product_id, name, description, price_cents, inventory)
values ('widget', 'The brass widget', 'Turns what you have into what you need. Hums when it is happy.', 2400, 12)
on conflict do nothing;

create table if not exists orders (
    order_id text primary key,
    status text not null,
    created_at_ms bigint not null
);

create table if not exists order_items (
    order_id text not null references orders,
    product_id text not null references products,
    quantity bigint not null check (quantity > 0),
    price_cents bigint not null,
    primary key (order_id, product_id)
);

-- The events of each order. No constraint prevents a repeated event: the code that writes it must.
create table if not exists order_history (
    order_id text not null references orders,
    position bigint not null,
    what text not null,
    at_ms bigint not null,
    primary key (order_id, position)
);

-- Orders for which a bank is paying, which takes a while.
create table if not exists bank_orders (
    order_id text primary key references orders
);

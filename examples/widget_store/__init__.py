"""A shop and its payment service: two durable programs that talk over HTTP and can be killed at any time.

Read `shop/checkout.py` first: it contains the whole life of an order. `payments/session.py` is its counterpart.

| part            | what it holds                                                                                    |
|-----------------|--------------------------------------------------------------------------------------------------|
| `shop/`         | the shop: `checkout` and `dispatch` are its workflows, `web` starts them and talks to them       |
| `payments/`     | the payment service: `session` and `delivery` are its workflows, `web` is its pages and calls    |
| `*/books.py`    | what each program keeps in a database of its own: stock and orders, payments and refunds         |
| `wire.py`       | the messages between the two; `signature.py` proves that the payment service has sent one        |
| `tour.py`       | an automatic run with customers, a slow bank and power cuts: `make tour`                         |
| `__main__.py`   | runs both: `make demo`                                                                           |
| the rest        | shared by both programs: settings, database, layout, timeline; and the tools of the tour         |

The environment configures the programs: see `settings.py`.
"""

"""A shop and its payment service: two durable programs that talk over HTTP, and survive being killed.

Read `shop/checkout.py` first: the whole story of an order is there. `payments/session.py` is the other side of it.

| part            | what it holds                                                                                    |
|-----------------|--------------------------------------------------------------------------------------------------|
| `shop/`         | the shop: `checkout` and `dispatch` are its workflows, `web` starts them and talks with them     |
| `payments/`     | the payment service: `session` and `delivery` are its workflows, `web` is its pages and calls    |
| `*/books.py`    | what each program keeps in a database of its own: stock and orders, payments and refunds         |
| `wire.py`       | what the two say to one another; `signature.py` proves that the payment service said it          |
| `tour.py`       | customers, a slow bank and power cuts, played by themselves: `make tour`                         |
| `__main__.py`   | opens both: `make demo`                                                                          |
| the rest        | what both programs share: settings, database, layout and timeline; what the tour plays with      |

What the programs are told by their environment is in `settings.py`.
"""

"""The payment service, simulated: takes the customers' money and tells the shop by webhooks.

`session.py` is its story.
"""

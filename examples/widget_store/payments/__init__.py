"""A simulated payment service: takes the customers' money and notifies the shop by webhooks.

Read `session.py` first.
"""

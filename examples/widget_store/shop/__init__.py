"""The shop: sells widgets to who pays in time. `checkout.py` is its story."""

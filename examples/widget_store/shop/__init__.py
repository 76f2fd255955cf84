"""The shop: sells widgets to customers who pay in time. Read `checkout.py` first."""

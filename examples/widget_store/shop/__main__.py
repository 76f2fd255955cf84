"""Runs the shop: `python -m examples.widget_store.shop`."""

from examples.widget_store.program import run
from examples.widget_store.shop.books import open_books
from examples.widget_store.shop.web import create_app

if __name__ == "__main__":
    run("shop", lambda told: told.shop_url, open_books, create_app)

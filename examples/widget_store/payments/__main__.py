"""Runs the payment service: `python -m examples.widget_store.payments`."""

from examples.widget_store.payments.books import open_books
from examples.widget_store.payments.web import create_app
from examples.widget_store.program import run

if __name__ == "__main__":
    run("payments", lambda told: told.payments_url, open_books, create_app)

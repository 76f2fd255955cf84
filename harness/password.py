"""The password in the URLs of our servers. The tests check that it is never shown (`tests/support/passwords.py`)."""

from typing import Final

PASSWORD: Final = "h1dden"

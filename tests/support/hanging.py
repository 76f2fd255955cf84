"""A test that hangs. Only `test_watchdog` runs it."""

import threading


def test_that_hangs() -> None:
    for_ever = threading.Event()
    threading.Thread(target=for_ever.wait, name="stuck", daemon=True).start()
    print("last words")  # noqa: T201 - the output of the test is shown too
    for_ever.wait()

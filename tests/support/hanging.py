"""A test that hangs. No run collects it but the one that `test_watchdog` starts."""

import threading


def test_that_hangs() -> None:
    for_ever = threading.Event()
    threading.Thread(target=for_ever.wait, name="stuck", daemon=True).start()
    print("last words")  # noqa: T201 - what a test has printed is shown, too
    for_ever.wait()

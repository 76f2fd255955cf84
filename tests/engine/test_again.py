"""Work that cannot begin now."""

from __future__ import annotations

import pytest

from tidings.engine.runs.again import Again


@pytest.mark.parametrize("thread", ["new thread", "new process"])
def test_the_end_of_the_program_is_no_lack_and_is_not_said(thread: str, caplog: pytest.LogCaptureFixture) -> None:
    """From Python 3.12 on no thread can be started once the interpreter shuts down."""
    again = Again("starting a thread", None, lambda: None)
    again.fails(RuntimeError(f"can't create {thread} at interpreter shutdown"))
    assert caplog.messages == []
    again.fails(RuntimeError("can't start new thread"))
    assert len(caplog.messages) == 1

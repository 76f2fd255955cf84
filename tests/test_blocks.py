"""Context managers that leave errors as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tidings.blocks import contextmanager


@dataclass(frozen=True)
class FrozenError(Exception):
    """An error that nobody may change."""

    number: int


@contextmanager
def block(said: list[str], *, swallows: type[BaseException] | tuple[()] = ()) -> Iterator[int]:
    said.append("begins")
    try:
        yield 7
    except swallows:
        said.append("swallows")
    finally:
        said.append("ends")


@pytest.mark.parametrize(
    "error", [FrozenError(1), ValueError("x"), StopIteration(), RuntimeError(), KeyboardInterrupt()]
)
def test_an_error_passes_as_it_is(error: BaseException) -> None:
    said: list[str] = []

    def fail() -> None:
        with block(said) as value:
            assert value == 7
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert said == ["begins", "ends"]


def test_a_block_ends_without_an_error_or_swallows_one() -> None:
    said: list[str] = []
    with block(said):
        pass

    def fail() -> None:
        raise FrozenError(1)

    with block(said, swallows=FrozenError):
        fail()
    assert said == ["begins", "ends", "begins", "swallows", "ends"]


def test_what_the_block_raises_itself_comes() -> None:
    @contextmanager
    def other() -> Iterator[None]:
        try:
            yield
        except ValueError:
            raise KeyError from None

    def fail() -> None:
        with other():
            raise ValueError

    with pytest.raises(KeyError):
        fail()


def test_a_generator_that_goes_on_is_a_mistake() -> None:
    @contextmanager
    def twice() -> Iterator[None]:
        yield
        yield

    def use() -> None:
        with twice():
            pass

    with pytest.raises(RuntimeError, match="more than once"):
        use()

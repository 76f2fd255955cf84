"""Making all mistakes, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mistakes import everything
from tests.mistakes.ground import Ground, Mistake, message_of, row
from tidings import DBOS
from tidings.engine.process import REGISTRY


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        mistake: what was done.
        message: what was said.
        text: both, as they are printed.
        lacks: what the message should say, and does not.
    """

    mistake: Mistake
    message: str
    text: str
    lacks: tuple[str, ...]


async def play(ground: Ground) -> list[Row]:
    """Make each mistake that can be made on this store: first those for which tidings must not run."""
    store = ground.app.database_url.partition(":")[0]
    mistakes = [each for each in everything() if each.only in (None, store)]
    said: dict[str, str] = {}
    try:
        for mistake in mistakes:
            if not mistake.launched:
                said[mistake.what] = await message_of(mistake, ground)
                REGISTRY.clear()
        await ground.app.launch()
        for mistake in mistakes:
            if mistake.launched:
                said[mistake.what] = await message_of(mistake, ground)
            REGISTRY.clear()  # Each is a program of its own: all call their workflow `checkout`.
    finally:
        DBOS.destroy(destroy_registry=True)
    rows = []
    for number, mistake in enumerate(mistakes, 1):
        message = said[mistake.what]
        lacks = tuple(each for each in mistake.says if each not in message)
        rows.append(Row(mistake, message, row(number, mistake, message), lacks))
    return rows

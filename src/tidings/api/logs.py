"""The log in a program that has configured no logging: INFO and above, on standard error.

By default Python shows only the warnings and errors of such a program, so `DBOS.logger.info(...)` would print nothing.
Here only the logger "tidings" and those below it are changed: while no logging is configured they have a level, and
"tidings" has a handler.

The program configures logging by giving a handler to the root logger, to "tidings" or to "dbos", at any time. From then
on only its configuration counts: its levels apply, and no line is shown twice. Each record checks this, because a
program may configure logging whenever it likes.

`logging.config.dictConfig` and `fileConfig` switch off all loggers that exist and that the configuration does not name:
`disable_existing_loggers` is true by default. Our loggers exist as soon as tidings is imported, so the errors of failed
workflows would be lost without a word. They are not switched off in this way. A program silences them by their level,
by `logger.disabled = True`, or by naming them in its configuration.

The start and end of each workflow ("tidings.workflows") are shown only if `log_level` is set. Otherwise a program that
starts thousands of workflows would write two lines for each. The same holds for the store's own messages
("tidings.store").
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from tidings.error import DBOSInitializationError
from tidings.slips import configured as named

_LOGGER: Final = logging.getLogger("tidings")
_OTHERS: Final = (logging.getLogger("tidings.workflows"), logging.getLogger("tidings.store"))
_ROOT: Final = logging.root
_OF_DBOS: Final = logging.getLogger("dbos")  # Programs written for dbos configure this logger.
_CONFIG: Final = "logging.config"
_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
_TIME: Final = "%H:%M:%S"


class _Kept(logging.Logger):
    """A logger that a configuration which does not name it leaves on.

    It is mixed into the class of the existing logger, because the program may have chosen a class for loggers.
    """

    @property
    def disabled(self) -> bool:
        return bool(vars(self).get("disabled", False))

    @disabled.setter
    def disabled(self, value: bool) -> None:
        if not (value and sys._getframe(1).f_globals.get("__name__") == _CONFIG):
            vars(self)["disabled"] = value


class _Fallback(logging.Handler):
    """Writes records to the current standard error, unless the program has a handler for them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT, _TIME))

    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        if _is_handled(logger) or (record.levelno < logging.WARNING and _is_configured(logger)):
            return
        try:
            if sys.stderr is not None:
                sys.stderr.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


_FALLBACK: Final = _Fallback()


class _Leveled(_Kept):
    """A logger of tidings. It has a level of its own while the program has configured no logging.

    Each workflow asks such a logger whether it is enabled, so the answer must be quick.
    """

    fallback_level: int

    def getEffectiveLevel(self) -> int:  # noqa: N802  (logging's name)
        level = self.level or _LOGGER.level
        if level:
            return level
        return _ROOT.level if _is_configured(self) else self.fallback_level

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        # The base class caches the answer until a level is set. Here it also changes when a handler is added.
        if level < self.fallback_level and level < _ROOT.level and not (self.level or _LOGGER.level):
            return False  # Under both levels that may apply.
        return not vars(self)["disabled"] and self.manager.disable < level and level >= self.getEffectiveLevel()


def show(level: int | None = None) -> None:
    """Show the log in a program that configures no logging.

    Args:
        level: the lowest level shown; `None` means INFO, and WARNING for workflows and the store.
    """
    _adopt(_LOGGER, logging.INFO if level is None else level)
    for logger in _OTHERS:
        _adopt(logger, logging.WARNING if level is None else level)
    if _FALLBACK not in _LOGGER.handlers:
        _LOGGER.addHandler(_FALLBACK)


def shown_logger() -> logging.Logger:
    """Return the logger of tidings, shown in a program that has configured no logging."""
    if not isinstance(_LOGGER, _Leveled):
        show()
    return _LOGGER


def level_from(configured: object) -> int | None:
    """Return the level that a configuration names.

    Raises:
        DBOSInitializationError: there is no such level.
    """
    if configured is None:
        return None
    levels = logging.getLevelNamesMapping()
    level = levels.get(configured.strip().upper()) if isinstance(configured, str) else configured
    if type(level) is not int or level < 0:
        known = ", ".join(repr(name) for name, number in levels.items() if number and name not in ("WARN", "FATAL"))
        raise DBOSInitializationError(
            f"the configuration's 'log_level' must be one of {known}, not {named(configured)}"
        )
    return level


def _adopt(logger: Any, level: int) -> None:
    _mix(logger, _Leveled)
    logger.fallback_level = level


def _mix(logger: Any, kind: type[_Kept]) -> None:
    if not isinstance(logger, kind):
        logger.__class__ = type("TidingsLogger", (kind, type(logger)), {})


def _is_configured(logger: logging.Logger) -> bool:
    """Tell whether the program has configured the logging of one of our loggers, or of all."""
    return bool(_is_handled(logger) or _OF_DBOS.handlers or not _LOGGER.propagate)


def _is_handled(logger: logging.Logger) -> bool:
    """Tell whether a handler of the program gets the records of one of our loggers."""
    if logger is not _LOGGER:
        if logger.handlers:
            return True
        if not logger.propagate:
            return False
    own = _LOGGER.handlers
    if len(own) > 1 or (own and own[0] is not _FALLBACK):
        return True
    return _LOGGER.propagate and bool(_ROOT.handlers)


for _each in (_LOGGER, *_OTHERS):
    _mix(_each, _Kept)

"""From any thread to the window's: jobs are done there, in turn, until the window goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class WindowThread(QObject):
    """Has jobs done on the thread that it was made on, which is the window's.

    Args:
        parent: The owner, on the same thread.
    """

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._has_ended = False
        self._posted.connect(self._carry_out)

    @property
    def has_ended(self) -> bool:
        """Whether nothing is done any more."""
        return self._has_ended

    def do(self, job: Callable[[], None]) -> None:
        """Have something done, unless the window goes before its turn comes; from any thread."""
        if self._has_ended:
            return
        try:
            self._posted.emit(job)
        except RuntimeError:  # Qt has deleted this object already
            log.debug("an answer came after the end")

    def end(self) -> None:
        """Do nothing from now on, not even what waits."""
        self._has_ended = True

    def _carry_out(self, job: Callable[[], None]) -> None:
        if not self._has_ended:
            job()

"""Reads attached files on threads of their own and tells the window, which never waits for a disk or a PDF."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.attachments import AttachmentError, read_attachment
from app.language import error_text

if TYPE_CHECKING:
    from pathlib import Path

    from app.conversation import Attachment

THREADS = 2


class AttachmentReader(QObject):
    """Reads files.

    Signals:
        loaded(Attachment): One was read.
        refused(str): One was not, in a sentence with its remedy.
        busy_changed(int): So many are being read.
    """

    loaded = Signal(object)
    refused = Signal(str)
    busy_changed = Signal(int)
    _done = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool: ThreadPoolExecutor | None = None
        self._busy = 0
        self._done.connect(self._take)

    def read(self, paths: list[Path]) -> None:
        """Read files; each is answered by `loaded` or `refused`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="attachments")
        for path in paths:
            self._busy += 1
            self._pool.submit(self._work, path)
        self.busy_changed.emit(self._busy)

    def _work(self, path: Path) -> None:
        """On one of the threads."""
        try:
            self._done.emit(read_attachment(path))
        except AttachmentError as error:
            self._done.emit(error_text(error))

    def _take(self, result: Attachment | str) -> None:
        self._busy -= 1
        if isinstance(result, str):
            self.refused.emit(result)
        else:
            self.loaded.emit(result)
        self.busy_changed.emit(self._busy)

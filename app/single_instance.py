"""One window per user and settings folder: a second start hands what it was asked to the first, and ends.

A lock file in the settings folder says who is first; the system takes it back when that process dies, so a crash leaves
nothing behind that matters. The first listens on a local socket, the second sends one line of JSON and waits for "ok".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from typing import TYPE_CHECKING

from PySide6.QtCore import QDeadlineTimer, QLockFile, QObject, QThread, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

from app.language import tr
from engine.errors import RooftopError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

ANSWER = b"ok\n"
ANSWER_TIMEOUT_MS = 5000
RETRY_MS = 50
MAX_LINE = 1 << 16
MAX_MODEL_CHARS = 4096
MAX_SOCKET_PATH = 90  # the system takes 103 to 107 bytes, and Qt adds some while it makes one
TOKEN_NAMES = ("XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID")


class NotAnsweringError(RooftopError):
    """Another Rooftop holds the lock and does not answer."""

    code = "already-running"


class SingleInstance(QObject):
    """The first of its kind, or the way to it.

    Args:
        folder: The settings folder; another folder is another Rooftop.
        parent: Qt parent.

    Signals:
        asked(str): Another start wants the window in front, with this model; "" for the one that is there.
    """

    asked = Signal(str)

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._folder = folder
        self._lock = QLockFile(str(folder / "rooftop.lock"))
        self._lock.setStaleLockTime(0)  # however long it runs: only a dead process leaves a stale lock
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._greet)

    def claim(self) -> bool:
        """Become the first, if there is none yet.

        Returns:
            Whether this start goes on: also where the folder cannot be written and nobody can tell.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.tryLock(0):
            return self._lock.error() != QLockFile.LockError.LockFailedError
        name = socket_name(self._folder)
        QLocalServer.removeServer(name)  # a crashed process's: the lock is ours
        if not self._server.listen(name):
            log.warning("Later starts cannot reach this one: %s", self._server.errorString())
        return True

    def hand_over(self, model: str | None, timeout_ms: int = ANSWER_TIMEOUT_MS) -> bool:
        """Ask the first to come to the front, with this model if there is one.

        Returns:
            Whether it did; not if it was just ending, and this one is the first now.

        Raises:
            NotAnsweringError: It holds the lock but does not answer.
        """
        tokens = {name: os.environ[name] for name in TOKEN_NAMES if name in os.environ}
        line = json.dumps({"model": model or "", "tokens": tokens}).encode() + b"\n"
        deadline = QDeadlineTimer(timeout_ms)
        while True:
            if _send(socket_name(self._folder), line, deadline):
                return True
            if self.claim():
                return False
            if deadline.hasExpired():
                break
            QThread.msleep(RETRY_MS)  # it may have the lock and not listen yet, or no longer
        pid = self._lock.getLockInfo()[0]
        raise NotAnsweringError(
            tr("Rooftop is already running (process {pid}) but does not answer.").format(pid=pid),
            tr("Wait for it, or end that process, then start Rooftop again."),
        )

    def release(self) -> None:
        """Let the next start be the first."""
        self._server.close()
        self._lock.unlock()

    def _greet(self) -> None:
        socket = self._server.nextPendingConnection()
        socket.readyRead.connect(lambda: self._read(socket))
        socket.disconnected.connect(socket.deleteLater)
        if socket.bytesAvailable():
            self._read(socket)

    def _read(self, socket: QLocalSocket) -> None:
        if not socket.canReadLine():
            if socket.bytesAvailable() > MAX_LINE:
                socket.abort()
            return
        try:
            request = json.loads(bytes(socket.readLine(MAX_LINE).data()))
            model, tokens = request["model"], request["tokens"]
            sound = isinstance(model, str) and isinstance(tokens, dict) and len(model) <= MAX_MODEL_CHARS
        except (ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if not sound:
            socket.abort()
            return
        socket.write(ANSWER)
        socket.flush()
        socket.disconnectFromServer()
        for name in TOKEN_NAMES:  # the desktop's leave to come to the front, which Qt reads from here
            if isinstance(tokens.get(name), str):
                os.environ[name] = tokens[name]
        self.asked.emit(model)


def _send(name: str, line: bytes, deadline: QDeadlineTimer) -> bool:
    """Say one line to whoever listens there; returns whether it was understood in time."""
    socket = QLocalSocket()
    socket.connectToServer(name)
    if not socket.waitForConnected(deadline.remainingTime()):
        return False
    socket.write(line)
    socket.flush()
    while not socket.canReadLine():
        if not socket.waitForReadyRead(deadline.remainingTime()):
            return False
    return bytes(socket.readLine().data()) == ANSWER


def socket_name(folder: Path) -> str:
    """Where the first listens: in the settings folder, or by a name where that path is too long for a socket."""
    path = folder.resolve() / "rooftop.socket"
    if os.name == "posix" and len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return str(path)
    return f"rooftop-{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}"

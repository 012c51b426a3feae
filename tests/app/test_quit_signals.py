"""A process that only waits in Qt's loop still hears that it should end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from PySide6.QtCore import QCoreApplication, QTimer
from app.quit_signals import QuitSignals
app = QCoreApplication([])
QuitSignals(app.quit, app)
QTimer.singleShot(0, lambda: print("waiting", flush=True))
code = app.exec()
print("left the loop", flush=True)
sys.exit(code)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_window_hears_the_signal(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert out == "left the loop\n"
    assert process.returncode == 0

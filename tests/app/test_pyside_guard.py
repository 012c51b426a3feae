"""PySide6 6.12 on Python 3.10 and 3.11 drops a reference to None at every call that returns None, and then dies.

The pin in pyproject.toml keeps us on a sound version; this fails before a user would notice that it moved.
"""

import sys

from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtWidgets import QApplication

CALLS = 1000
NOISE = 100


def test_calls_that_return_none_keep_its_references(qapp: QApplication) -> None:
    image = QImage(4, 4, QImage.Format.Format_RGB32)
    painter = QPainter(image)
    colour = QColor("red")
    before = sys.getrefcount(None)
    for _ in range(CALLS):
        painter.fillRect(0, 0, 4, 4, colour)
    after = sys.getrefcount(None)
    painter.end()
    assert abs(after - before) < NOISE

"""Turning the wheel over a widget."""

from PySide6.QtCore import QPoint, QPointF
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget


def wheel(widget: QWidget) -> None:
    """One notch down, as it comes from the system: what a widget ignores goes on to those around it."""
    window = widget.window()
    QTest.wheelEvent(window.windowHandle(), QPointF(widget.mapTo(window, widget.rect().center())), QPoint(0, -120))

"""A user who has only a keyboard: every key goes to whatever has the focus, as a window system would send it."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QContextMenuEvent, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QWidget

MOST_STEPS = 400


def press(keys: str) -> None:
    """Press one combination, e.g. "Ctrl+N"."""
    combination = QKeySequence(keys)[0]  # type: ignore[index]
    key, held = combination.key(), combination.keyboardModifiers()
    if key == Qt.Key.Key_Tab and held & Qt.KeyboardModifier.ShiftModifier:
        key = Qt.Key.Key_Backtab  # as window systems send it
    QTest.keyClick(_target(), key, held)


def write(text: str) -> None:
    """Type a text."""
    QTest.keyClicks(_target(), text)


def context_menu() -> None:
    """Press the menu key; window systems make an event of its own of it, at the cursor."""
    widget = focused()
    place = widget.inputMethodQuery(Qt.InputMethodQuery.ImCursorRectangle).center()
    event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, place, widget.mapToGlobal(place))
    QApplication.sendEvent(widget, event)


def focused() -> QWidget:
    """What has the focus."""
    widget = QApplication.focusWidget()
    assert widget is not None, "the focus is nowhere"
    return widget


def tab_to(wanted: Callable[[QWidget], bool], key: str = "Tab") -> QWidget:
    """Press Tab until something is reached."""
    seen = []
    for _ in range(MOST_STEPS):
        if wanted(focused()):
            return focused()
        seen.append(name_of(focused()))
        press(key)
    raise AssertionError(f"never reached; the way was {' > '.join(dict.fromkeys(seen))}")


def tab_to_name(name: str) -> QWidget:
    """Press Tab until a control of this name is reached."""
    return tab_to(lambda widget: name in name_of(widget))


def tab_ring() -> list[QWidget]:
    """Everything that Tab reaches from here, until it comes back."""
    start, ring = focused(), [focused()]
    for _ in range(MOST_STEPS):
        press("Tab")
        if focused() is start:
            return ring
        way = [name_of(widget) or type(widget).__name__ for widget in ring]
        assert focused() not in ring, f"Tab runs in a circle at {name_of(focused())} after {way}"
        ring.append(focused())
    raise AssertionError("Tab never comes back")


def name_of(widget: QWidget) -> str:
    """What a screen reader calls a control."""
    text = widget.text().replace("&", "") if isinstance(widget, QAbstractButton) else ""
    return widget.accessibleName() or text


def _target() -> QWidget:
    for widget in (QApplication.activePopupWidget(), QApplication.focusWidget(), QApplication.activeWindow()):
        if widget is not None:
            return widget
    raise AssertionError("no window is active")

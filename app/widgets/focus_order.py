"""The order in which Tab walks through a window: the one in which its layouts show things.

Qt's own order is that of construction, which in a chat that grows puts every new message behind everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLayout, QScrollArea, QSplitter, QWidget

if TYPE_CHECKING:
    from collections.abc import Iterator


def move_focus(window: QWidget, *, forward: bool) -> bool:
    """Give the focus to the next widget that takes it, or the one before, around the end.

    Returns:
        Whether there is one.
    """
    ring = [widget for widget in _in_order(window) if takes_tab(widget)]
    if not ring:
        return False
    at = _place_of(window.focusWidget(), ring)
    step = 1 if forward else -1
    target = ring[(at + step) % len(ring)] if at is not None else ring[0 if forward else -1]
    target.setFocus(Qt.FocusReason.TabFocusReason if forward else Qt.FocusReason.BacktabFocusReason)
    return True


def takes_tab(widget: QWidget) -> bool:
    """Whether Tab is meant to come here."""
    wanted = widget.focusPolicy() & Qt.FocusPolicy.TabFocus == Qt.FocusPolicy.TabFocus
    return wanted and widget.isVisible() and widget.isEnabled() and widget.focusProxy() is None


def _place_of(widget: QWidget | None, ring: list[QWidget]) -> int | None:
    """Where a widget is in the ring; one that only a click can focus counts as the one that holds it."""
    while widget is not None:
        if widget in ring:
            return ring.index(widget)
        widget = widget.parentWidget()
    return None


def _in_order(widget: QWidget) -> Iterator[QWidget]:
    """A widget, then what is in it, as its layouts show it; what is in no layout comes last."""
    yield widget
    inside = _shown_in(widget)
    others = [child for child in widget.children() if isinstance(child, QWidget) and not child.isWindow()]
    for child in (*inside, *(other for other in others if other not in inside)):
        yield from _in_order(child)


def _shown_in(widget: QWidget) -> list[QWidget]:
    if isinstance(widget, QSplitter):
        return [part for index in range(widget.count()) if (part := widget.widget(index)) is not None]
    if isinstance(widget, QScrollArea) and widget.widget() is not None:
        return [widget.viewport()]
    layout = widget.layout()
    return list(_laid_out(layout)) if layout is not None else []


def _laid_out(layout: QLayout) -> Iterator[QWidget]:
    for index in range(layout.count()):
        item = layout.itemAt(index)
        widget, inner = (item.widget(), item.layout()) if item is not None else (None, None)
        if widget is not None:
            yield widget
        elif inner is not None:
            yield from _laid_out(inner)

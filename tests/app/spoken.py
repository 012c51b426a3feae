"""Every text that a window shows or tells a screen reader, and those among them that are still English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPointF, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QGroupBox,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QSpinBox,
    QTabWidget,
    QWidget,
)

from app.language import TRANSLATIONS
from app.widgets.memory_gauge import MemoryGauge
from app.widgets.panel_parts import NumberTile
from app.widgets.rate_bars import RateBars
from resources.translations.update import read_translations

_LEAST_LETTERS = 9  # a shorter text may be a part of a German word
_ROLES = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole)
_TEXT_OF = {
    QLabel: ("text",),
    QAbstractButton: ("text",),
    QGroupBox: ("title",),
    QLineEdit: ("placeholderText",),
    QPlainTextEdit: ("placeholderText",),
    QAbstractSpinBox: ("specialValueText", "text"),
    QSpinBox: ("prefix", "suffix"),
    QDoubleSpinBox: ("prefix", "suffix"),
    QMenu: ("title",),
    NumberTile: ("caption",),
    MemoryGauge: ("headline",),
}


def said_in(window: QWidget) -> set[str]:
    """Every text of a window, its hidden parts and menus included."""
    texts = set()
    for widget in [window, *window.findChildren(QWidget)]:
        texts |= {widget.accessibleName(), widget.accessibleDescription(), widget.toolTip(), widget.windowTitle()}
        for kind, names in _TEXT_OF.items():
            if isinstance(widget, kind):
                texts |= {_plain(getattr(widget, name)) for name in names}
        texts |= set(_listed(widget))
    for action in window.findChildren(QAction):
        texts |= {action.text(), action.toolTip()}
    return {text for text in texts if text}


def _plain(value: object) -> str:
    return str(value() if callable(value) else value)


def _listed(widget: QWidget) -> Iterator[str]:
    """What is in lists, tables, tabs and drawings."""
    if isinstance(widget, QComboBox):
        yield from (widget.itemText(index) for index in range(widget.count()))
    if isinstance(widget, QTabWidget):
        yield from (widget.tabText(index) for index in range(widget.count()))
    if isinstance(widget, QAbstractItemView) and (model := widget.model()) is not None:
        columns = 1 if isinstance(model, QAbstractListModel) else model.columnCount(QModelIndex())
        for row in range(model.rowCount(QModelIndex())):
            for column in range(columns):
                yield from (str(model.index(row, column).data(role) or "") for role in _ROLES)
            yield str(model.headerData(row, Qt.Orientation.Vertical) or "")
    if isinstance(widget, MemoryGauge) and widget.content is not None:
        parts = (
            widget.part_at(QPointF(x, y)) for x in range(0, widget.width(), 8) for y in range(0, widget.height(), 8)
        )
        yield from (widget._tip(part) for part in parts if part is not None)
    if isinstance(widget, RateBars):
        yield from (text for row in widget.rows for text in (row.name, row.words, row.meaning))


def english_among(texts: set[str]) -> dict[str, str]:
    """Texts that hold English where there is German: each with what should have been translated."""
    german, patterns = _german()
    found: dict[str, str] = {}
    for text in texts:
        plain = text.replace("&", "")
        if plain not in german:
            sources = [source for source, part, pattern in patterns if part in plain and pattern.search(plain)]
            found |= dict.fromkeys([text] if sources else [], "; ".join(sources))
    return found


@cache
def _german() -> tuple[set[str], list[tuple[str, str, re.Pattern[str]]]]:
    """All German texts; and each English one with its longest part between placeholders, and a pattern for it all."""
    patterns = []
    translations = read_translations(TRANSLATIONS / "rooftop_de.ts")
    for source, forms in translations.items():
        plain = source.replace("&", "")
        parts = re.split(r"\{\w+\}|%n", plain)
        if source in forms or sum(char.isalpha() for part in parts for char in part) < _LEAST_LETTERS:
            continue
        pattern = re.compile(rf"(?<!\w){'.{1,300}?'.join(map(re.escape, parts))}(?!\w)", re.DOTALL)
        patterns.append((source, max(parts, key=len), pattern))
    return {form.replace("&", "") for forms in translations.values() for form in forms}, patterns

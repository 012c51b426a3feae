"""The list of chats as rows: pinned ones, folders, then by day; or what a search found. No widgets.

The model holds plain entries and builds no widget per chat, so thousands of chats scroll as smoothly as ten.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, Qt, Signal

from app.history import ChatEntry
from app.history_search import MATCH_END, MATCH_START, Found
from app.language import tr

Index = QModelIndex | QPersistentModelIndex
ENTRY_ROLE = int(Qt.ItemDataRole.UserRole)
NAME_ROLE, SNIPPET_ROLE, BUSY_ROLE, HEADING_ROLE = ENTRY_ROLE + 1, ENTRY_ROLE + 2, ENTRY_ROLE + 3, ENTRY_ROLE + 4
_NO_INDEX = QModelIndex()


@dataclass(frozen=True, slots=True)
class Row:
    """A heading, or a chat.

    Attributes:
        heading: The heading's text, "" for a chat.
        entry: The chat, None for a heading.
        name: The chat's name, with matches of a search marked.
        snippet: What a search found in its messages, marked likewise.
    """

    heading: str
    entry: ChatEntry | None = None
    name: str = ""
    snippet: str = ""


class ChatListModel(QAbstractListModel):
    """Rows for the sidebar's list.

    Signals:
        renamed(str, str): The user gave a chat a name.
    """

    renamed = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._entries: list[ChatEntry] = []
        self._found: list[Found] | None = None
        self._busy = ""

    def show_entries(self, entries: list[ChatEntry], now: datetime.datetime | None = None) -> None:
        """Take the chats, the one written in last first."""
        self._entries = entries
        if self._found is None:
            self._show(grouped(entries, now or datetime.datetime.now().astimezone()))
        else:
            self.show_found(self._found)

    def show_found(self, found: list[Found] | None) -> None:
        """Show what a search found instead, or all chats again."""
        self._found = found
        if found is None:
            self.show_entries(self._entries)
            return
        by_key = {entry.key: entry for entry in self._entries}
        rows = [Row("", by_key[f.key], f.name, f.snippet) for f in found if f.key in by_key]
        self._show([Row(tr("%n chats found", len(rows))), *rows])

    def set_busy(self, key: str) -> None:
        """Mark the chat that a reply is being written in, "" for none."""
        before, self._busy = self._busy, key
        for changed in {before, key} - {""}:
            row = self.row_of(changed)
            if row >= 0:
                self.dataChanged.emit(self.index(row), self.index(row), [BUSY_ROLE])

    def row_of(self, key: str) -> int:
        """The row of a chat, -1 if it is not listed."""
        return next((i for i, row in enumerate(self._rows) if row.entry is not None and row.entry.key == key), -1)

    # ---- Qt's side ----------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NO_INDEX) -> int:
        """How many rows there are."""
        return 0 if parent.isValid() else len(self._rows)

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Headings cannot be chosen, chats can be renamed."""
        if not index.isValid() or self._rows[index.row()].entry is None:
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEditable

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401 - Qt's own signature
        """What a row shows."""
        row = self._rows[index.row()]
        entry = row.entry
        plain = row.heading or (entry.name if entry is not None else "")
        values: dict[int, Any] = {
            int(Qt.ItemDataRole.DisplayRole): plain,
            int(Qt.ItemDataRole.EditRole): plain,
            ENTRY_ROLE: entry,
            NAME_ROLE: row.name,
            SNIPPET_ROLE: row.snippet,
            BUSY_ROLE: entry is not None and entry.key == self._busy,
            HEADING_ROLE: row.heading,
        }
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return self._spoken(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return None if entry is None else _escaped(entry.name)
        return values.get(int(role))

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:  # noqa: ANN401
        """A new name."""
        entry = self._rows[index.row()].entry
        if entry is None or role != Qt.ItemDataRole.EditRole or not isinstance(value, str):
            return False
        if value.strip() != entry.name:
            self.renamed.emit(entry.key, value)
        return True

    def _spoken(self, row: Row) -> str:
        """A row for a screen reader."""
        if row.entry is None:
            return row.heading
        parts = [row.entry.name]
        if row.entry.pinned:
            parts.append(tr("pinned"))
        if row.entry.key == self._busy:
            parts.append(tr("a reply is being written"))
        if row.snippet:
            parts.append(row.snippet.replace(MATCH_START, "").replace(MATCH_END, ""))
        return ", ".join(parts)

    def _show(self, rows: list[Row]) -> None:
        if len(rows) == len(self._rows):
            changed = [i for i, (old, new) in enumerate(zip(self._rows, rows, strict=True)) if old != new]
            same_places = all(_key(old) == _key(new) for old, new in zip(self._rows, rows, strict=True))
            if same_places:
                self._rows = rows
                for i in changed:
                    self.dataChanged.emit(self.index(i), self.index(i))
                return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()


def grouped(entries: list[ChatEntry], now: datetime.datetime) -> list[Row]:
    """Chats under their headings: pinned, folders by name, then by the day they were written in last."""
    pinned = [entry for entry in entries if entry.pinned]
    loose = [entry for entry in entries if not entry.pinned]
    groups: list[tuple[str, list[ChatEntry]]] = [(tr("Pinned"), pinned)]
    folders = sorted({entry.folder for entry in loose if entry.folder}, key=str.casefold)
    groups += [(folder, [entry for entry in loose if entry.folder == folder]) for folder in folders]
    days: dict[str, list[ChatEntry]] = {}
    for entry in loose:
        if not entry.folder:
            days.setdefault(_day(entry.updated_s, now), []).append(entry)
    groups += days.items()
    return [row for heading, part in groups if part for row in (Row(heading), *(Row("", e, e.name) for e in part))]


def _day(updated_s: float, now: datetime.datetime) -> str:
    if updated_s >= now.timestamp():  # the clock was wrong then, or is now
        return tr("Today")
    try:
        day = datetime.datetime.fromtimestamp(updated_s, now.tzinfo).date()
    except (OverflowError, ValueError, OSError):  # not a moment that the system knows
        return tr("Older")
    ago = (now.date() - day).days
    if ago <= 0:
        return tr("Today")
    if ago == 1:
        return tr("Yesterday")
    return tr("Previous 7 days") if ago <= 7 else tr("Older")


def _key(row: Row) -> tuple[str, str]:
    return row.heading, row.entry.key if row.entry is not None else ""


def _escaped(text: str) -> str:
    """A tooltip that shows a text verbatim, breaking its lines."""
    import html

    return f"<p>{html.escape(text)}</p>"

"""A long table that may still be growing, one that Qt lays out row by row.

Qt lays a table out whole, which takes 90 ms for 400 rows. Here each row is a table of its own, moved up until the
borders lie on each other, with columns as wide as Qt would make them: `TextBlock` with the same rows looks the same. A
row that asks for wider columns is shown at once; the others follow, some in each turn of the event loop.
"""

from __future__ import annotations

import math
import re
from itertools import takewhile
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QMimeData, QTimer
from PySide6.QtGui import QTextCursor, QTextLength, QTextTable

from app.theme import BLOCK_GAP_PX
from app.widgets.text_block import MIN_WIDTH, TextBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtWidgets import QWidget

ROWS_A_TURN = 60
PADDING_PX = 6
BORDER_PX = 1
FRAME_PX = 4  # what a table is wider and higher than its cells
_CELL = re.compile(r"<(t[hd])")
_BETWEEN = re.compile(r"\s*</table>.*?<table[^>]*>", re.DOTALL)


class TableBlock(TextBlock):
    """Safe HTML of rows, the heading first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[str] = []
        self._least: list[float] = []  # of each column, the widest single character and the widest line of any cell
        self._most: list[float] = []
        self._widths: tuple[int, ...] = ()
        self._given: list[tuple[int, ...]] = []  # the widths that each row has now
        self._late = QTimer(self, singleShot=True, interval=0)
        self._late.timeout.connect(self._widen_some)

    @property
    def settled(self) -> bool:
        """Whether all rows have the same columns."""
        return not self._late.isActive()

    def show_rows(self, rows: Sequence[str]) -> None:
        """Show rows made by `app.markdown`; those that are shown already stay."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._rows, rows, strict=False)))
        if same == len(rows) == len(self._rows):
            return
        self._cut(same)
        self._apply_css()
        if self.document().textWidth() <= 0:  # it was never shown: nothing would be laid out to be measured
            self.document().setTextWidth(max(MIN_WIDTH, self.viewport().width()))
        for first in range(same, len(rows), ROWS_A_TURN):
            self._add(rows[first : first + ROWS_A_TURN])
        self._fit(force=True)
        if self._marks is not None:
            self.show_marks(*self._marks)

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        rows, self._least, self._most, self._widths = self._rows, [], [], ()
        self._cut(0)
        self.show_rows(rows)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the font, in which every cell has another width."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.restyle()

    def createMimeDataFromSelection(self) -> QMimeData:
        """What is copied is one table."""
        cursor = self.textCursor()
        start, end = cursor.selectionStart(), cursor.selectionEnd()
        chosen = [row for row in self._tables() if row.firstPosition() < end and row.lastPosition() > start]
        if len(chosen) <= 1:
            return super().createMimeDataFromSelection()
        data = QMimeData()
        data.setText("\n".join(_row_text(row) for row in chosen) + "\n")
        data.setHtml(_BETWEEN.sub("", cursor.selection().toHtml()))
        return data

    def _tables(self) -> list[QTextTable]:
        return [frame for frame in self.document().rootFrame().childFrames() if isinstance(frame, QTextTable)]

    def _cut(self, kept: int) -> None:
        """Take the rows after some away."""
        cursor = QTextCursor(self.document())
        cursor.setPosition(self._tables()[kept - 1].lastPosition() + 1 if kept else 0)
        cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()
        self._rows, self._given = self._rows[:kept], self._given[:kept]

    def _add(self, rows: Sequence[str]) -> None:
        """Add rows at the end, in columns as wide as those before suggest, and see how wide these would like them."""
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.beginEditBlock()
        for number, row in enumerate(rows, start=len(self._rows)):
            cursor.insertHtml(self._table_of(row, first=number == 0))
        cursor.endEditBlock()
        self.document().size()  # has it laid out
        self._rows += rows
        self._given += [self._widths] * len(rows)
        for table in self._tables()[-len(rows) :]:
            self._measure(table)
        self._set_widths()

    def _table_of(self, row: str, *, first: bool) -> str:
        widths = iter(self._widths)
        cells = _CELL.sub(lambda cell: f'<{cell[1]} width="{next(widths)}"', row) if self._widths else row
        up = "" if first else f' style="margin-top: {-BLOCK_GAP_PX - FRAME_PX}px"'
        part = "thead" if first else "tbody"
        table = f'<table border="{BORDER_PX}" cellspacing="0" cellpadding="{PADDING_PX}"{up}>'
        return f"{table}<{part}>{cells}</{part}></table>"

    def _measure(self, table: QTextTable) -> None:
        if not self._least:
            self._least, self._most = [0.0] * table.columns(), [0.0] * table.columns()
        block = table.firstCursorPosition().block()
        for column in range(table.columns()):
            text = block.layout()
            self._least[column] = max(self._least[column], text.minimumWidth())
            self._most[column] = max(self._most[column], text.maximumWidth())
            block = block.next()

    def _set_widths(self) -> None:
        """Work out how wide the columns are; rows with other ones follow."""
        around = 2 * PADDING_PX + BORDER_PX
        room = self.viewport().width() - FRAME_PX
        self._widths = column_widths(
            [math.ceil(width) + around for width in self._least],
            [math.ceil(width) + around for width in self._most],
            room,
        )
        if self._given and self._given != [self._widths] * len(self._given):
            self._late.start()

    def _widen_some(self) -> None:
        """Give the next rows their columns, from below: there a reply is read while it is written."""
        late = [number for number, widths in enumerate(self._given) if widths != self._widths]
        tables = self._tables()
        columns = [QTextLength(QTextLength.Type.FixedLength, width) for width in self._widths]
        cursor = QTextCursor(self.document())
        cursor.beginEditBlock()
        for number in late[-ROWS_A_TURN:]:
            shape = tables[number].format().toTableFormat()
            shape.setColumnWidthConstraints(columns)
            tables[number].setFormat(shape)
            self._given[number] = self._widths
        cursor.endEditBlock()
        if len(late) > ROWS_A_TURN:
            self._late.start()
        self._fit(force=True)

    def _fit(self, *, force: bool = False) -> None:
        if self._rows:
            self._set_widths()
        super()._fit(force=force)


def column_widths(least: Sequence[int], most: Sequence[int], room: int) -> tuple[int, ...]:
    """Share room among columns as Qt does: each what it needs, then the same to each until it has what it would."""
    widths = list(least)
    left = max(0, room - sum(least))
    by_wish = sorted(range(len(least)), key=lambda column: most[column] - least[column])
    for place, column in enumerate(by_wish):
        more = min(most[column] - least[column], left // (len(by_wish) - place))
        widths[column] += more
        left -= more
    return tuple(widths)


def _row_text(row: QTextTable) -> str:
    """The cells of a row, each on a line of its own, as Qt has it."""
    cursor = row.firstCursorPosition()
    cursor.setPosition(row.lastPosition(), QTextCursor.MoveMode.KeepAnchor)
    return cursor.selection().toPlainText().strip("\n")

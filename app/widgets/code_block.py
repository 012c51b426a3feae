"""A block of code: its language, a copy button, and the code coloured by Pygments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRect, QSize, Qt, QTimer
from PySide6.QtGui import QColor, QGuiApplication, QPalette, QSyntaxHighlighter, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.highlight import CODE_COLOURS, Span, highlight_lines
from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS, current_theme, mono_font
from app.widgets.marks import selections

if TYPE_CHECKING:
    from PySide6.QtGui import QTextDocument, QWheelEvent

    from app.text_search import Needle

COPIED_MS = 1500
LIVE_LINES = 40


class CodeBlock(QFrame):
    """Code that may still be growing."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("codeBlock")
        self._language = ""
        self._label = QLabel()
        self._label.setObjectName("codeLanguage")
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._copy = QPushButton(tr("Copy"))
        self._copy.setObjectName("quiet")
        self._copy.setAccessibleName(tr("Copy this code"))
        self._copy.setCursor(Qt.CursorShape.PointingHandCursor)
        self._copy.clicked.connect(self._copy_code)
        self._copied_timer = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._copied_timer.timeout.connect(lambda: self._copy.setText(tr("Copy")))
        self._view = _CodeView(self)
        header = QHBoxLayout()
        header.setContentsMargins(SPACE_M, SPACE_XS, SPACE_XS, 0)
        header.addWidget(self._label)
        header.addStretch()
        header.addWidget(self._copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(1, 1, 1, SPACE_S)
        layout.setSpacing(0)
        layout.addLayout(header)
        layout.addWidget(self._view)

    @property
    def code(self) -> str:
        """What is shown."""
        return self._view.toPlainText()

    def show_code(self, code: str, language: str) -> None:
        """Show code; growing code keeps what is there."""
        self._language = language
        self._label.setText(language or "code")
        self._view.setAccessibleName(f"Code, {language}" if language else "Code")
        self._view.show_code(code, language)

    @property
    def markable(self) -> _CodeView:
        """The text, for marks."""
        return self._view

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        self._view.restyle(self._language)

    def _copy_code(self) -> None:
        QGuiApplication.clipboard().setText(self.code)
        self._copy.setText(tr("Copied"))
        self._copied_timer.start()


class _CodeView(QPlainTextEdit):
    """Read-only code, as tall as its lines, scrolling only sideways."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(0)
        self.setViewportMargins(SPACE_M, SPACE_XS, SPACE_M, 0)
        self._matches: list[int] = []
        self._highlighter = _Highlighter(self.document())
        self.horizontalScrollBar().rangeChanged.connect(self._fit)
        self._take_style()

    def show_code(self, code: str, language: str) -> None:
        """Replace the code, or append to it when it only grew."""
        shown = self.toPlainText()
        if shown and code != shown and code.startswith(shown):
            cursor = QTextCursor(self.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(code[len(shown) :])
            self._colour_tail(code, language)
        else:
            if code != shown:
                self.setPlainText(code)
            self._highlighter.show_spans(highlight_lines(code, language))
        self._fit()

    def _colour_tail(self, code: str, language: str) -> None:
        """Colour growing code from a line on that probably begins a statement; complete code is coloured as a whole."""
        lines = code.split("\n")
        first = min(self._highlighter.rows, len(lines)) - LIVE_LINES
        while first > 0 and (not lines[first].strip() or lines[first][0] in " \t})]"):
            first -= 1
        first = max(0, first)
        self._highlighter.show_spans(highlight_lines("\n".join(lines[first:]), language), first)

    def show_marks(self, needle: Needle, current: int | None) -> int:
        """Mark the matches, one of them as the current one; returns how many there are."""
        marks, self._matches = selections(self.document(), needle, self.toPlainText(), current)
        self.setExtraSelections(marks)
        return len(self._matches)

    def match_rect(self, ordinal: int) -> QRect:
        """Where a match begins."""
        cursor = QTextCursor(self.document())
        cursor.setPosition(self._matches[ordinal])
        return self.cursorRect(cursor)

    def restyle(self, language: str) -> None:
        """Take the colours and fonts in force."""
        self._take_style()
        self._highlighter.take_colours()
        self._highlighter.show_spans(highlight_lines(self.toPlainText(), language))
        self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Take sideways scrolling, leave the rest to the transcript."""
        if (
            abs(event.angleDelta().x()) > abs(event.angleDelta().y())
            or event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        ):
            super().wheelEvent(event)
        else:
            event.ignore()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def minimumSizeHint(self) -> QSize:
        """Any width will do."""
        return QSize(40, 0)

    def _take_style(self) -> None:
        self.setFont(mono_font())
        palette = self.palette()
        palette.setColor(QPalette.ColorRole.Base, QColor(current_theme().surface_alt))
        self.setPalette(palette)
        self.setTabStopDistance(4 * self.fontMetrics().horizontalAdvance(" "))

    def _fit(self) -> None:
        line_height = self.blockBoundingRect(self.firstVisibleBlock()).height()
        margins = self.viewportMargins()
        wide = self.horizontalScrollBar().maximum() > 0
        bar = self.horizontalScrollBar().sizeHint().height() if wide else 0
        height = math.ceil(max(1, self.blockCount()) * line_height) + margins.top() + margins.bottom() + bar + 2
        if height != self.height():
            self.setFixedHeight(height)


class _Highlighter(QSyntaxHighlighter):
    """Colours lines from spans that were computed for the whole text."""

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)
        self._spans: list[list[Span]] = []
        self._formats: dict[str, QTextCharFormat] = {}
        self.take_colours()

    def take_colours(self) -> None:
        """Read the colours of the theme in force."""
        self._spans = []
        for kind, colour in CODE_COLOURS[current_theme().name].items():
            self._formats[kind] = QTextCharFormat()
            self._formats[kind].setForeground(QColor(colour))
            self._formats[kind].setFontItalic(kind == "comment")

    @property
    def rows(self) -> int:
        """Lines that have spans."""
        return len(self._spans)

    def show_spans(self, spans: list[list[Span]], first: int = 0) -> None:
        """Repaint the lines whose spans changed.

        Args:
            spans: Of the lines from `first` on; what the ones before have stays.
            first: A line.
        """
        before = self._spans[first:]
        self._spans[first:] = spans
        block = self.document().findBlockByNumber(first)
        for row, line in enumerate(spans):
            if not block.isValid():
                break
            if row >= len(before) or before[row] != line:
                self.rehighlightBlock(block)
            block = block.next()

    def highlightBlock(self, text: str) -> None:
        """Called by Qt for one line; Qt counts UTF-16 units, Pygments characters."""
        row = self.currentBlock().blockNumber()
        if row >= len(self._spans):
            return
        for span in self._spans[row]:
            start = _utf16_length(text[: span.start])
            length = _utf16_length(text[span.start : span.start + span.length])
            self.setFormat(start, length, self._formats[span.kind])


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2

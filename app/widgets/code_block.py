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

from app.highlight import CODE_COLOURS, LineSpans, Span
from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS, current_theme, mono_font
from app.widgets.lexers import lexer_loader
from app.widgets.marks import ShownText, selections

if TYPE_CHECKING:
    from PySide6.QtGui import QTextDocument, QWheelEvent

    from app.text_search import Needle

COPIED_MS = 1500
LIVE_LINES = 40
SLICE_CHARS = 4000  # coloured in one turn of the event loop, some milliseconds


class CodeBlock(QFrame):
    """Code that may still be growing."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("codeBlock")
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
        self._label.setText(language or tr("code"))
        self._view.setAccessibleName(tr("Code, {language}").format(language=language) if language else tr("Code"))
        self._view.show_code(code, language)

    @property
    def markable(self) -> _CodeView:
        """The text, for marks."""
        return self._view

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        self._view.restyle()

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
        self._code = self._language = ""
        self._run: LineSpans | None = None
        self._run_first = self._run_chars = 0
        self._waits = False
        self._late = QTimer(self, singleShot=True, interval=0)
        self._late.timeout.connect(self._colour_some)
        self._matches: list[int] = []
        self._highlighter = _Highlighter(self.document())
        self.horizontalScrollBar().rangeChanged.connect(self._fit)
        self._take_style()

    @property
    def settled(self) -> bool:
        """Whether everything has its colours."""
        return self._run is None and not self._waits

    def show_code(self, code: str, language: str) -> None:
        """Replace the code, or append to it when it only grew."""
        shown, self._language = self._code, language
        self._code = code
        if shown and code != shown and code.startswith(shown):
            cursor = QTextCursor(self.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(code[len(shown) :])
            if self._run is None:
                self._colour_tail()
        else:
            if code != shown:
                self._highlighter.forget()
                self.setPlainText(code)
            self._colour_from(0)
        self._fit()

    def _colour_tail(self) -> None:
        """Colour growing code from a line on that probably begins a statement; complete code is coloured as a whole."""
        lines = self._code.split("\n")
        first = max(0, min(self._highlighter.rows, len(lines)) - LIVE_LINES)
        last_resort = max(0, first - LIVE_LINES)
        while first > last_resort and (not lines[first].strip() or lines[first][0] in " \t})]"):
            first -= 1
        self._colour_from(first)

    def _colour_from(self, first: int) -> None:
        """Colour the lines from one on: some now, the others in later turns of the event loop."""
        loader = lexer_loader()
        if not loader.has(self._language):
            if not self._waits:
                loader.loaded.connect(self._lexer_loaded)
            self._waits, self._run = True, None
            return
        if self._waits:
            self._waits = False
            loader.loaded.disconnect(self._lexer_loaded)
        rest = self._code if first == 0 else "\n".join(self._code.split("\n")[first:])
        self._run, self._run_first, self._run_chars = LineSpans(rest, self._language), first, len(self._code)
        self._colour_some()

    def _lexer_loaded(self, language: str) -> None:
        if language == self._language:
            self._colour_from(0)

    def _colour_some(self) -> None:
        run = self._run
        if run is None:
            return
        before = run.rows
        more = run.advance(SLICE_CHARS)
        self._highlighter.show_spans(run.lines[before : run.rows], self._run_first + before)
        if more:
            self._late.start()
            return
        self._run = None
        if len(self._code) > self._run_chars:  # it has grown meanwhile
            self._colour_tail()

    def show_marks(self, needle: Needle, current: int | None) -> int:
        """Mark the matches, one of them as the current one; returns how many there are."""
        marks, self._matches = selections(self.document(), needle, ShownText(self.toPlainText()), current)
        self.setExtraSelections(marks)
        return len(self._matches)

    def search_text(self) -> str:
        """The code."""
        return self.toPlainText()

    def match_rect(self, ordinal: int) -> QRect:
        """Where a match begins."""
        cursor = QTextCursor(self.document())
        cursor.setPosition(self._matches[ordinal])
        return self.cursorRect(cursor)

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        self._take_style()
        self._highlighter.take_colours()
        self._colour_from(0)
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
        self.forget()
        for kind, colour in CODE_COLOURS[current_theme().name].items():
            self._formats[kind] = QTextCharFormat()
            self._formats[kind].setForeground(QColor(colour))
            self._formats[kind].setFontItalic(kind == "comment")

    def forget(self) -> None:
        """Know of no spans."""
        self._spans = []

    @property
    def rows(self) -> int:
        """Lines that have spans."""
        return len(self._spans)

    def show_spans(self, spans: list[list[Span]], first: int = 0) -> None:
        """Repaint the lines whose spans changed.

        Args:
            spans: Of some lines, the first of them `first`; what the others have stays.
            first: A line, at most one behind those that have spans.
        """
        before = self._spans[first : first + len(spans)]
        self._spans[first : first + len(spans)] = spans
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

"""A reply's thoughts, folded: "Thinking…" with the latest line while they come, then how long they took."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from app.icons import icon
from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS, current_theme
from app.units import seconds_text
from app.widgets.markdown_view import MarkdownView

PREVIEW_CHARS = 400


class ThoughtsView(QWidget):
    """Thoughts that may still be growing; their text has widgets only while it is unfolded.

    Signals:
        link_clicked(str): The user wants to open an address; nothing has been opened.
    """

    link_clicked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source = ""
        self._thinking = False
        self._started_s: float | None = None
        self._seconds: float | None = None
        self._body: MarkdownView | None = None
        self._toggle = QToolButton()
        self._toggle.setObjectName("thoughts")
        self._toggle.setAccessibleName(tr("Thoughts"))
        self._toggle.setCheckable(True)
        self._toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._toggle.setCursor(Qt.CursorShape.PointingHandCursor)
        self._toggle.toggled.connect(self._show_body)
        self._preview = QLabel()
        self._preview.setObjectName("thoughtsPreview")
        self._preview.setTextFormat(Qt.TextFormat.PlainText)
        self._preview.setMinimumWidth(1)
        row = QHBoxLayout()
        row.setSpacing(SPACE_S)
        row.addWidget(self._toggle)
        row.addWidget(self._preview, 1)
        self._frame = QFrame()
        self._frame.setObjectName("thoughtsText")
        self._frame_layout = QVBoxLayout(self._frame)
        self._frame_layout.setContentsMargins(SPACE_M, SPACE_XS, 0, SPACE_XS)
        self._frame.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, SPACE_XS)
        layout.setSpacing(SPACE_XS)
        layout.addLayout(row)
        layout.addWidget(self._frame)
        self.restyle()

    @property
    def title(self) -> str:
        """What the fold says."""
        return self._toggle.text()

    @property
    def preview(self) -> str:
        """The latest line, while thoughts come."""
        return self._preview.text()

    @property
    def unfolded(self) -> bool:
        """Whether the text is shown."""
        return self._toggle.isChecked()

    @property
    def body(self) -> MarkdownView | None:
        """The text, while it is unfolded."""
        return self._body

    def unfold(self) -> None:
        """Show the text."""
        self._toggle.setChecked(True)

    def show_thoughts(self, thoughts: str, *, thinking: bool) -> None:
        """Show thoughts, which only ever grow.

        Args:
            thoughts: All of them so far.
            thinking: Whether more may come.
        """
        if thinking and self._started_s is None:
            self._started_s = time.monotonic()
        if self._thinking and not thinking and self._started_s is not None:
            self._seconds = time.monotonic() - self._started_s
        added = thoughts[len(self._source) :] if thoughts.startswith(self._source) else None
        self._source, ended, self._thinking = thoughts, self._thinking and not thinking, thinking
        if self._body is not None:
            if added is None or not thinking:
                if added is None or added or ended:
                    self._body.show_source(thoughts)
            elif added:
                self._body.append(added)
        self._show_title()

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        drawing = "unfold" if self.unfolded else "right"
        self._toggle.setIcon(icon(drawing, current_theme().text_dim))
        if self._body is not None:
            self._body.restyle()

    def _show_title(self) -> None:
        if self._thinking:
            title = tr("Thinking…")
        elif self._seconds is not None:
            title = tr("Thought for {time}").format(time=seconds_text(self._seconds))
        else:
            title = tr("Thought for %n words", len(self._source.split()))
        self._toggle.setText(title)
        self._toggle.setAccessibleName(title)
        tail = self._source[-PREVIEW_CHARS:].rstrip().rpartition("\n")[2] if self._thinking else ""
        shown = "" if self.unfolded else tail
        room = max(40, self._preview.width())
        self._preview.setText(self._preview.fontMetrics().elidedText(shown, Qt.TextElideMode.ElideLeft, room))

    def _show_body(self, shown: bool) -> None:
        if shown and self._body is None:
            self._body = MarkdownView(self._frame)
            self._body.link_clicked.connect(self.link_clicked)
            self._frame_layout.addWidget(self._body)
            self._body.show_source(self._source)
        elif not shown and self._body is not None:
            self._frame_layout.removeWidget(self._body)
            self._body.deleteLater()
            self._body = None
        self._frame.setVisible(shown)
        self._show_title()
        self.restyle()

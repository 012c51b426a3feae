"""Editing a message in its place: Enter sends the new one, Esc leaves the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRect, Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_M, SPACE_S
from app.widgets.text_direction import follow_direction

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent, QResizeEvent

MAX_LINES = 12
WRAPPED = Qt.TextFlag.TextWordWrap | Qt.TextFlag.TextWrapAnywhere


class MessageEditor(QFrame):
    """A field with the message's text and two buttons.

    Args:
        text: What to begin with.
        parent: The message's view.

    Signals:
        accepted(str): Send this instead.
        cancelled(): Leave the message as it is.
    """

    accepted = Signal(str)
    cancelled = Signal()

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("composer")
        self._field = _Field(self)
        self._field.setPlainText(text)
        self._field.moveCursor(self._field.textCursor().MoveOperation.End)
        self._field.submitted.connect(self._accept)
        self._field.escaped.connect(self.cancelled)
        self._field.textChanged.connect(self._text_changed)
        self._field.resized.connect(self._fit)
        self._send = QPushButton(tr("Save and send"))
        self._send.setObjectName("primary")
        self._send.clicked.connect(self._accept)
        cancel = QPushButton(tr("Cancel"))
        cancel.clicked.connect(self.cancelled)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(cancel)
        row.addWidget(self._send)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_M, SPACE_S, SPACE_S, SPACE_S)
        layout.addWidget(self._field)
        layout.addLayout(row)
        self.setFocusProxy(self._field)
        self._text_changed()

    @property
    def field(self) -> QPlainTextEdit:
        """Where the text is."""
        return self._field

    def _accept(self) -> None:
        text = self._field.toPlainText().strip()
        if text:
            self.accepted.emit(text)

    def _text_changed(self) -> None:
        self._send.setEnabled(bool(self._field.toPlainText().strip()))
        self._fit()

    def _fit(self) -> None:
        """Take the height of the text as it is wrapped, up to the limit."""
        spacing = self._field.fontMetrics().lineSpacing()
        width = max(1, self._field.viewport().width() - SPACE_S)
        room = QRect(0, 0, width, 1 << 20)
        text = self._field.toPlainText() + "\N{ZERO WIDTH SPACE}"
        lines = round(self._field.fontMetrics().boundingRect(room, int(WRAPPED), text).height() / spacing)
        always = Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self._field.setVerticalScrollBarPolicy(always if lines <= MAX_LINES else Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self._field.setFixedHeight(min(lines, MAX_LINES) * spacing + SPACE_S + 2)


class _Field(QPlainTextEdit):
    """Plain text whose Enter and Escape mean something."""

    submitted = Signal()
    escaped = Signal()
    resized = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("draft")
        self.setAccessibleName(tr("Edit your message"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.document().setDocumentMargin(2)
        follow_direction(self)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def event(self, event: QEvent) -> bool:
        """Escape belongs to this field, not to the window."""
        if event.type() == QEvent.Type.ShortcutOverride and event.key() == Qt.Key.Key_Escape:  # type: ignore[attr-defined]
            event.accept()
            return True
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width wraps the text otherwise."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.resized.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter sends, Escape leaves."""
        plain = not event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and plain:
            self.submitted.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.escaped.emit()
        else:
            super().keyPressEvent(event)

"""The versions of one message beside each other, to be compared; one of them can be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.language import tr
from app.theme import SPACE_L, SPACE_M, SPACE_S
from app.thoughts import split_thoughts
from app.widgets.markdown_view import MarkdownView
from app.widgets.message_footer import status_text
from app.widgets.text_block import TextBlock
from app.widgets.thoughts_view import ThoughtsView

if TYPE_CHECKING:
    from app.conversation import Message

MOST_COLUMNS = 8
MAX_SHOWN_CHARS = 100_000
COLUMN_WIDTH = 400
COLUMN_MIN_WIDTH = 260
HEIGHT = 640
SCREEN_SHARE = 0.9


class VersionsDialog(QDialog):
    """Shows versions in columns, oldest first.

    Args:
        versions: The message and its other versions, at least two.
        shown: The one that the chat shows.
        parent: The window.

    Signals:
        chosen(Message): The user wants this one in the chat.
        link_clicked(str): The user wants to open an address; nothing has been opened.
    """

    chosen = Signal(object)
    link_clicked = Signal(str)

    def __init__(self, versions: list[Message], shown: Message, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Versions side by side"))
        columns = versions[-MOST_COLUMNS:]
        if shown not in columns:
            columns[0] = shown
        row = QHBoxLayout()
        row.setSpacing(SPACE_L)
        for version in columns:
            row.addWidget(self._column(version, versions.index(version) + 1, version is shown), 1)
        inside = QWidget()
        inside.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        scroll = _scrolling(inside)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_M)
        if len(columns) < len(versions):
            words = tr("{shown} of {count} versions").format(shown=len(columns), count=len(versions))
            layout.addWidget(_dim(words))
        layout.addWidget(scroll, 1)
        layout.addWidget(buttons)
        screen = self.screen().availableGeometry().size() * SCREEN_SHARE
        self.resize(QSize(len(columns) * COLUMN_WIDTH, HEIGHT).boundedTo(screen))

    def _column(self, version: Message, number: int, is_shown: bool) -> QWidget:
        """One version: its number, its text and what can be done with it."""
        column = QWidget()
        column.setMinimumWidth(COLUMN_MIN_WIDTH)
        name = tr("Version {number}").format(number=number)
        title = QLabel(tr("{version}, shown in the chat").format(version=name) if is_shown else name)
        title.setObjectName("modelName")
        copy = QPushButton(tr("Copy"))
        copy.setObjectName("secondary")
        copy.setAccessibleName(tr("Copy version {number}").format(number=number))
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(version.text))
        use = QPushButton(tr("Use this one"))
        use.setObjectName("secondary")
        use.setAccessibleName(tr("Use version {number}").format(number=number))
        use.setEnabled(not is_shown)
        use.clicked.connect(lambda: self._use(version))
        row = QHBoxLayout()
        row.setSpacing(SPACE_S)
        row.addWidget(copy)
        row.addWidget(use)
        row.addStretch(1)
        layout = QVBoxLayout(column)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_S)
        layout.addWidget(title)
        text = _scrolling(self._text(version))
        text.setAccessibleName(name)
        text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout.addWidget(text, 1)
        if version.role == "assistant":
            layout.addWidget(_dim(status_text(version)))
        layout.addLayout(row)
        return column

    def _text(self, version: Message) -> QWidget:
        """What a version says."""
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(0, 0, SPACE_S, 0)
        if version.role == "user":
            block = TextBlock()
            block.show_plain(version.text[:MAX_SHOWN_CHARS])
            layout.addWidget(block)
        else:
            reply = split_thoughts(version.text)
            if reply.thoughts:
                thoughts = ThoughtsView()
                thoughts.link_clicked.connect(self.link_clicked)
                thoughts.show_thoughts(reply.thoughts[:MAX_SHOWN_CHARS], thinking=False)
                layout.addWidget(thoughts)
            body = MarkdownView()
            body.link_clicked.connect(self.link_clicked)
            body.show_source(reply.answer[:MAX_SHOWN_CHARS])
            layout.addWidget(body)
        layout.addStretch(1)
        return inside

    def _use(self, version: Message) -> None:
        self.chosen.emit(version)
        self.accept()


def _scrolling(inside: QWidget) -> QScrollArea:
    scroll = QScrollArea()
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setWidgetResizable(True)
    scroll.setWidget(inside)
    return scroll


def _dim(text: str) -> QLabel:
    label = QLabel(text)
    label.setObjectName("dim")
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    return label

"""Find in chat: a bar with the count, and the search itself, message after message in slices of time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QToolButton, QWidget

from app.icons import icon
from app.language import tr
from app.text_search import MAX_NEEDLE_CHARS, Needle, searchable
from app.theme import SPACE_S, SPACE_XS, current_theme
from app.units import number_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QKeyEvent

    from app.conversation import Message
    from app.widgets.transcript import Transcript

SLICE_S = 0.008
TYPING_MS = 120


@dataclass(frozen=True, slots=True)
class Match:
    """One match: in which message, and its number among that message's."""

    message: int
    ordinal: int


class FindBar(QFrame):
    """Looks for words in a transcript and goes from match to match.

    Args:
        transcript: Where.
        parent: The owner.

    Signals:
        closed(): The user is done.
    """

    closed = Signal()

    def __init__(self, transcript: Transcript, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("findBar")
        self._transcript = transcript
        self._needle = Needle("")
        self._counts: list[int] = []
        self._current: Match | None = None
        self._plain: dict[int, tuple[str, list[str]]] = {}
        self._typing = QTimer(self, singleShot=True, interval=TYPING_MS)
        self._typing.timeout.connect(self._begin)
        self._slice = QTimer(self, singleShot=True, interval=0)
        self._slice.timeout.connect(self._search_slice)
        self._edit = QLineEdit()
        self._edit.setPlaceholderText(tr("Find in this chat"))
        self._edit.setAccessibleName(tr("Find in this chat"))
        self._edit.setMaxLength(MAX_NEEDLE_CHARS)
        self._edit.textChanged.connect(lambda _text: self._typing.start())
        self._count = QLabel()
        self._count.setObjectName("dim")
        self._count.setTextFormat(Qt.TextFormat.PlainText)
        self._previous = self._button(tr("Previous match (Shift+Enter)"), lambda: self.step(-1))
        self._next = self._button(tr("Next match (Enter)"), lambda: self.step(1))
        self._close = self._button(tr("Close (Esc)"), self.close_bar)
        transcript.contents_changed.connect(self._contents_changed)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_S, SPACE_XS, SPACE_XS, SPACE_XS)
        layout.setSpacing(SPACE_XS)
        layout.addWidget(self._edit, 1)
        layout.addWidget(self._count)
        for button in (self._previous, self._next, self._close):
            layout.addWidget(button)
        self.restyle()
        self.hide()

    @property
    def count_text(self) -> str:
        """What the bar says of the matches."""
        return self._count.text()

    @property
    def searching(self) -> bool:
        """Whether messages are still to be searched."""
        return self._typing.isActive() or self._slice.isActive()

    def open_bar(self) -> None:
        """Show the bar, what was looked for last selected."""
        self.show()
        self._edit.setFocus()
        self._edit.selectAll()
        if self._edit.text():
            self._begin()

    def close_bar(self) -> None:
        """Hide the bar and its marks."""
        self._typing.stop()
        self._slice.stop()
        self._current = None
        self._plain.clear()
        self._transcript.mark(Needle(""), None)
        self.hide()
        self.closed.emit()

    def step(self, by: int) -> None:
        """Go to the next match, or with -1 to the one before; round at the end."""
        if self._typing.isActive():
            self._typing.stop()
            self._begin()
        matches = [Match(index, n) for index, count in enumerate(self._counts) for n in range(count)]
        if not matches:
            return
        if self._current in matches:
            position = (matches.index(self._current) + by) % len(matches)
        else:
            position = 0 if by > 0 else len(matches) - 1
        self._go(matches[position])

    def restyle(self) -> None:
        """Take the colours in force."""
        colour = current_theme().text_dim
        for button, drawing in ((self._previous, "up"), (self._next, "unfold"), (self._close, "close")):
            button.setIcon(icon(drawing, colour))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter and Escape are ours."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.step(-1 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1)
        elif event.key() == Qt.Key.Key_Escape:
            self.close_bar()
        else:
            super().keyPressEvent(event)

    # ---- searching ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Search from the first message on."""
        self._needle = Needle(self._edit.text())
        self._counts, self._current = [], None
        self._transcript.mark(self._needle, None)
        self._search_slice()

    def _contents_changed(self) -> None:
        """Messages came, went or grew: count again, keeping the match that is shown."""
        if self.isVisible() and not self._needle.empty and not self._slice.isActive():
            self._counts = []
            self._slice.start()

    def _search_slice(self) -> None:
        """Count in as many messages as fit into a moment."""
        messages = self._transcript.messages
        end_s = time.monotonic() + SLICE_S
        while not self._needle.empty and len(self._counts) < len(messages) and time.monotonic() < end_s:
            self._counts.append(self._needle.count(self._blocks(messages[len(self._counts)])))
        if not self._needle.empty and len(self._counts) < len(messages):
            self._slice.start()
        elif self._current is None and any(self._counts):
            self._go(self._first_in_sight())
        self._show_count()

    def _blocks(self, message: Message) -> list[str]:
        """The plain text of a message, kept while the bar is open."""
        known = self._plain.get(id(message))
        if known is None or known[0] != message.text:
            known = (message.text, searchable(message))
            self._plain[id(message)] = known
        return known[1]

    def _first_in_sight(self) -> Match:
        """The first match at or below the top of the view, else the first of all."""
        top = self._transcript.first_visible
        found = [index for index, count in enumerate(self._counts) if count]
        return Match(next((index for index in found if index >= top), found[0]), 0)

    def _go(self, match: Match) -> None:
        self._current = match
        self._transcript.mark(self._needle, match)
        self._show_count()

    def _show_count(self) -> None:
        if self._needle.empty:
            text = ""
        elif not any(self._counts):
            text = tr("Searching…") if self._slice.isActive() else tr("No matches")
        else:
            number = 0
            if self._current is not None:
                number = sum(self._counts[: self._current.message]) + self._current.ordinal + 1
            text = tr("{number} of {count}").format(number=number_text(number), count=number_text(sum(self._counts)))
        self._count.setText(text)

    def _button(self, name: str, run: Callable[[], object]) -> QToolButton:
        button = QToolButton()
        button.setToolTip(name)
        button.setAccessibleName(name)
        button.setIconSize(QSize(16, 16))
        button.clicked.connect(lambda _checked=False: run())
        return button

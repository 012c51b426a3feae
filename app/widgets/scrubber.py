"""The scrubber: a slider over the last reply's tokens, with the token in its context and the way back to "live"."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSlider, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_S, SPACE_XS, current_theme
from app.units import brief_text
from app.widgets.form_parts import let_wheel_pass

if TYPE_CHECKING:
    from PySide6.QtCore import QEvent

    from app.reply_history import TokenView

LIVE = -1
_PAGE_TOKENS = 16
_SLIDER_HEIGHT = 20
_SHOWN_BEFORE = 34
_SHOWN_AFTER = 18


class Scrubber(QWidget):
    """Chooses a token of the last reply.

    Signals:
        chosen(int): Index of the token to look at, or `LIVE`.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._live = True
        self._view: TokenView | None = None
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setObjectName("scrubber")
        self.slider.setMinimumHeight(_SLIDER_HEIGHT)
        self.slider.setPageStep(_PAGE_TOKENS)
        let_wheel_pass(self.slider)
        self.slider.valueChanged.connect(self._moved)
        self.live_button = QPushButton(self)
        self.live_button.setObjectName("quiet")
        policy = self.live_button.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.live_button.setSizePolicy(policy)
        self.live_button.clicked.connect(self.go_live)
        self._title = QLabel(self)
        self._title.setObjectName("dim")
        self._title.setTextFormat(Qt.TextFormat.PlainText)
        self._context = QLabel(self)
        self._context.setObjectName("dim")
        self._context.setTextFormat(Qt.TextFormat.RichText)
        self._context.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._arrange()
        self._retranslate()
        self.set_range(0, LIVE)

    def _arrange(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(SPACE_S)
        top.addWidget(self._title, 1)
        top.addWidget(self.live_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE_XS)
        column.addLayout(top)
        column.addWidget(self.slider)
        column.addWidget(self._context)

    def _retranslate(self) -> None:
        self.setAccessibleName(tr("Tokens of the last reply"))
        self.slider.setAccessibleName(tr("Token of the last reply"))
        self.slider.setToolTip(tr("Drag, or use the arrow keys, to see the map and the layers as of an earlier token."))
        self.live_button.setText(tr("Live"))
        self.live_button.setAccessibleDescription(tr("Back to what happens now."))

    @property
    def live(self) -> bool:
        """Whether the panel shows what happens now."""
        return self._live

    @property
    def text(self) -> str:
        """The words that are shown."""
        return self._title.text()

    def set_range(self, first: int, last: int) -> None:
        """Tokens from `first` to `last` can be looked at; a last of -1 means none."""
        empty = last < first
        with QSignalBlocker(self.slider):
            self.slider.setRange(max(0, first), max(0, last))
            if self._live:
                self.slider.setValue(self.slider.maximum())
        self.slider.setEnabled(not empty)
        if empty:
            self._live = True
        if self._live:
            self._view = None
            self._tell_live(0 if empty else last + 1)
        elif self._view is not None:
            self._tell_token(self._view)

    def show_token(self, view: TokenView) -> None:
        """Tell the words of the chosen token."""
        self._view = view
        self._tell_token(view)

    def go_live(self) -> None:
        """Back to what happens now."""
        if not self._live:
            self._live, self._view = True, None
            with QSignalBlocker(self.slider):
                self.slider.setValue(self.slider.maximum())
            self._tell_live(self.slider.maximum() + 1)
            self.chosen.emit(LIVE)

    def _moved(self, value: int) -> None:
        self._live = False
        self.chosen.emit(value)

    def _tell_live(self, tokens: int) -> None:
        words = tr("Drag to go back through the reply, %n tokens", tokens) if tokens else tr("No reply yet")
        self._title.setText(words)
        self._context.setText("&nbsp;")
        if self.live_button.hasFocus():
            self.slider.setFocus()
        self.live_button.hide()
        self.slider.setAccessibleDescription(words)

    def _tell_token(self, view: TokenView) -> None:
        record = view.record
        parts = [tr("Token {number} of {total}").format(number=record.position + 1, total=self.slider.maximum() + 1)]
        if record.position > 0:
            parts.append(brief_text(record.seconds))
        else:
            parts.append(tr("after {time}, from the prompt").format(time=brief_text(record.seconds)))
        self._title.setText(" \N{MIDDLE DOT} ".join(parts))
        token = visible(record.text) or tr("(no text)")
        before, after = visible(view.before)[-_SHOWN_BEFORE:], visible(view.after)[:_SHOWN_AFTER]
        theme = current_theme()
        mark = f'<span style="background-color:{theme.accent};color:{theme.accent_text}">{_spaced(token)}</span>'
        self._context.setText(f"{_spaced(before)}{mark}{_spaced(after)}")
        self.live_button.show()
        self.slider.setAccessibleDescription(f"{self._title.text()}: {before}[{token}]{after}")

    def changeEvent(self, event: QEvent) -> None:
        """Take another theme."""
        super().changeEvent(event)
        if event.type() == event.Type.PaletteChange and self._view is not None:
            self._tell_token(self._view)


def visible(text: str) -> str:
    """A token's text on one line."""
    return text.replace("\r", "").replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace("\t", " ")


def _spaced(text: str) -> str:
    return html.escape(text).replace(" ", "&nbsp;")

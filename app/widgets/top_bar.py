"""The line above the chat: which model, on what device, how fast it writes, and the live panel's button."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QWidget

from app.engine_words import device_words
from app.icons import icon
from app.language import tr
from app.theme import SPACE_M, SPACE_S, current_theme
from app.units import rate_text, seconds_text

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent

    from engine.messages import Ready, Timings

ICON_PX = 20


class TopBar(QFrame):
    """Model, device, speed.

    Signals:
        sidebar_toggled(): Show or hide the list of chats.
        panel_toggled(bool): Show or hide the live panel.
        new_chat_requested(): Begin a new chat.
        options_requested(): Change the options of this chat.
        models_requested(): Choose another model.
    """

    sidebar_toggled = Signal()
    panel_toggled = Signal(bool)
    new_chat_requested = Signal()
    options_requested = Signal()
    models_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("topBar")
        self._model = QPushButton()
        self._model.setObjectName("modelName")
        self._model.setToolTip(tr("Models (Ctrl+M)"))
        self._model.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
        self._model.clicked.connect(self.models_requested)
        self._badge = _plain_label("badge", tr("Device"))
        self._speed = _plain_label("figure", tr("Speed"))
        self._ttft = _plain_label("dim", tr("Time to first token"))
        self._sidebar = self._make_button(tr("Chats (Ctrl+B)"))
        self._sidebar.setCheckable(True)
        self._sidebar.clicked.connect(lambda _checked=False: self.sidebar_toggled.emit())
        self._new = self._make_button(tr("New chat (Ctrl+N)"))
        self._new.clicked.connect(self.new_chat_requested)
        self._options = self._make_button(tr("Chat options (Ctrl+Shift+P)"))
        self._options.clicked.connect(self.options_requested)
        self._panel = self._make_button(tr("Live panel (Ctrl+Shift+B)"))
        self._panel.setCheckable(True)
        self._panel.clicked.connect(self.panel_toggled)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_M, SPACE_S, SPACE_M, SPACE_S)
        layout.setSpacing(SPACE_S)
        layout.addWidget(self._sidebar)
        layout.addWidget(self._model)
        layout.addWidget(self._badge)
        layout.addStretch(1)
        layout.addWidget(self._speed)
        layout.addWidget(self._ttft)
        layout.addSpacing(SPACE_S)
        layout.addWidget(self._options)
        layout.addWidget(self._new)
        layout.addWidget(self._panel)
        self._name = ""
        self.restyle()

    @property
    def text(self) -> str:
        """All that stands in the bar, the model's name in full."""
        labels = (self._badge, self._speed, self._ttft)
        shown = (label.text() for label in labels if not label.isHidden())
        return "  ".join(filter(None, (self._name, *shown)))

    def show_model_name(self, name: str) -> None:
        """The model that is being loaded."""
        self._badge.clear()
        self._name_model(name)
        self.clear_speed()

    def show_ready(self, ready: Ready, name: str) -> None:
        """The model that is loaded, by the name to show, and its device."""
        self._badge.setText(device_words(ready))
        self._badge.setProperty("tone", "simulated" if ready.simulated else "")
        simulated = tr("This GPU is simulated: its speed is computed, not real.")
        tip = simulated if ready.simulated else tr("Where the model runs")
        self._badge.setToolTip(tip)
        self._badge.style().unpolish(self._badge)
        self._badge.style().polish(self._badge)
        self._name_model(name)

    def _name_model(self, name: str) -> None:
        self._name = name
        self._model.setAccessibleName(tr("Model {name}; choose another one").format(name=name))
        self._make_room()

    def _make_room(self) -> None:
        """Leave out what there is no room for, the last first; a name that is still too long is shortened."""
        labels = (self._badge, self._speed, self._ttft)
        self._model.setText(_escaped(self._name))
        others = (self._sidebar, self._options, self._new, self._panel)
        room = self.width() - 2 * SPACE_M - 5 * SPACE_S - sum(button.sizeHint().width() for button in others)
        left = room - self._model.sizeHint().width()
        for label in labels:
            needed = label.sizeHint().width() + SPACE_S
            fits = needed <= left
            label.setVisible(bool(label.text()) and fits)
            left -= needed if label.text() else 0
        if left < 0 and room < self._model.sizeHint().width():
            around = self._model.sizeHint().width() - self._model.fontMetrics().horizontalAdvance(self._name)
            short = self._model.fontMetrics().elidedText(self._name, Qt.TextElideMode.ElideRight, room - around)
            self._model.setText(_escaped(short))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the width."""
        super().resizeEvent(event)
        self._make_room()

    def minimumSizeHint(self) -> QSize:
        """Narrow is fine: what does not fit is left out."""
        return QSize(0, super().minimumSizeHint().height())

    def show_speed(self, tokens_per_s: float) -> None:
        """The speed measured just now; 0 keeps what is there."""
        if tokens_per_s > 0:
            self._speed.setText(rate_text(tokens_per_s))
            self._make_room()

    def show_timings(self, timings: Timings) -> None:
        """The numbers of a complete reply."""
        self.show_speed(timings.decode_tokens_per_s)
        self._ttft.setText(tr("first token {time}").format(time=seconds_text(timings.ttft_s)))
        self._make_room()

    def clear_speed(self) -> None:
        """Nothing has been measured."""
        self._speed.clear()
        self._ttft.clear()
        self._make_room()

    def show_panel_state(self, *, visible: bool) -> None:
        """Whether the live panel is shown."""
        self._panel.setChecked(visible)

    def show_sidebar_state(self, *, visible: bool) -> None:
        """Whether the list of chats is shown."""
        self._sidebar.setChecked(visible)

    def restyle(self) -> None:
        """Take the theme in force."""
        colour = current_theme().text
        self._sidebar.setIcon(icon("sidebar", colour))
        self._model.setIcon(icon("unfold", current_theme().text_dim))
        self._options.setIcon(icon("settings", colour))
        self._new.setIcon(icon("new-chat", colour))
        self._panel.setIcon(icon("panel", colour))
        self._make_room()

    def _make_button(self, text: str) -> QToolButton:
        button = QToolButton()
        button.setToolTip(text)
        button.setAccessibleName(text)
        button.setIconSize(QSize(ICON_PX, ICON_PX))
        return button


def _escaped(name: str) -> str:
    """A name may have an ampersand, which a button takes for a mnemonic."""
    return name.replace("&", "&&")


def _plain_label(name: str, accessible_name: str) -> QLabel:
    label = QLabel()
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setAccessibleDescription(accessible_name)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
    return label

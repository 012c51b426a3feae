"""Notices and errors above the chat: one sentence, one or two actions each, never a dialog in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QApplication,
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon
from app.language import tr
from app.theme import SPACE_M, SPACE_S, current_theme
from app.units import unbroken
from app.widgets.flow_layout import FlowLayout

if TYPE_CHECKING:
    from collections.abc import Callable

Tone = Literal["notice", "error"]
ICON_PX = 20
MAX_TEXT_CHARS = 600
MAX_BESIDE_CHARS = 90


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a banner; the banner goes away when it is clicked."""

    label: str
    run: Callable[[], object]


class Banner(QFrame):
    """One sentence with its actions."""

    def __init__(self, text: str, tone: Tone, actions: tuple[Action, ...], close: Callable[[], None]) -> None:
        super().__init__()
        self.setObjectName("banner")
        self.setProperty("tone", tone)
        self._tone = tone
        self._text = text[:MAX_TEXT_CHARS]
        self._icon = QLabel()
        self._label = QLabel(unbroken(self._text))
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._close = QToolButton()
        self._close.setAccessibleName(tr("Dismiss"))
        self._close.setToolTip(tr("Dismiss"))
        self._close.clicked.connect(close)
        self.buttons: list[QPushButton] = []
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_M, SPACE_S, SPACE_S, SPACE_S)
        layout.setSpacing(SPACE_S)
        for index, action in enumerate(actions):
            self._make_button(action, close, primary=index == 0)
        side = Qt.AlignmentFlag.AlignVCenter if self._beside() else Qt.AlignmentFlag.AlignTop
        layout.addWidget(self._icon, 0, side)
        layout.addLayout(self._words(), 1)
        layout.addWidget(self._close, 0, side)
        self.setAccessibleName(text)
        self.restyle()

    @property
    def text(self) -> str:
        """The sentence."""
        return self._text

    def restyle(self) -> None:
        """Take the theme in force."""
        theme = current_theme()
        colour = theme.error if self._tone == "error" else theme.warning
        self._icon.setPixmap(icon(self._tone, colour).pixmap(ICON_PX, ICON_PX))
        self._close.setIcon(icon("close", theme.text_dim))
        self._close.setIconSize(QSize(16, 16))

    def _words(self) -> QBoxLayout:
        """A short sentence with one button beside it; a long one, or more buttons, with them below."""
        beside = self._beside()
        words: QBoxLayout = QHBoxLayout() if beside else QVBoxLayout()
        buttons: QLayout = words if beside else FlowLayout(SPACE_S)
        words.addWidget(self._label, int(beside))
        if not beside:
            words.addLayout(buttons)
        words.setSpacing(SPACE_S)
        for button in self.buttons:
            buttons.addWidget(button)
        return words

    def _beside(self) -> bool:
        return not self.buttons or (len(self.buttons) == 1 and len(self._text) <= MAX_BESIDE_CHARS)

    def _make_button(self, action: Action, close: Callable[[], None], *, primary: bool) -> None:
        button = QPushButton(action.label)
        button.setObjectName("primary" if primary else "secondary")
        button.setAccessibleName(action.label)
        button.clicked.connect(close)
        button.clicked.connect(action.run)
        self.buttons.append(button)


class BannerArea(QWidget):
    """A column of banners, at most one per key.

    Signals:
        shown(str): A sentence is shown.
        focus_lost(): A banner went away with the keyboard on one of its buttons.
    """

    shown = Signal(str)
    focus_lost = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._banners: dict[str, Banner] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(SPACE_S)
        self.hide()

    @property
    def banners(self) -> dict[str, Banner]:
        """What is shown now, by key."""
        return dict(self._banners)

    def show_banner(
        self,
        key: str,
        text: str,
        tone: Tone = "notice",
        actions: tuple[Action, ...] = (),
        closed: Callable[[], object] = lambda: None,
    ) -> None:
        """Show a sentence, in place of the one with the same key.

        Args:
            key: What it is about.
            text: The sentence.
            tone: Whether something failed.
            actions: What can be done about it.
            closed: Called when the user waves it away, or has chosen an action.
        """
        self.dismiss(key)

        def close() -> None:
            self.dismiss(key)
            closed()

        banner = Banner(text, tone, actions, close)
        self._banners[key] = banner
        self._layout.addWidget(banner)
        self.show()
        self.shown.emit(text)

    def dismiss(self, key: str) -> None:
        """Take a banner away, if it is there."""
        banner = self._banners.pop(key, None)
        if banner is not None:
            focus = QApplication.focusWidget()
            had_focus = focus is not None and banner.isAncestorOf(focus)
            self._layout.removeWidget(banner)
            banner.hide()
            banner.deleteLater()
            if had_focus:
                self.focus_lost.emit()
        self.setVisible(bool(self._banners))

    def restyle(self) -> None:
        """Take the theme in force."""
        for banner in self._banners.values():
            banner.restyle()

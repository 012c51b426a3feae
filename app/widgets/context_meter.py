"""How full the context is: a quiet button by the composer, with a list of what fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_L, SPACE_M, SPACE_S, current_theme
from app.units import number_text

if TYPE_CHECKING:
    from PySide6.QtGui import QPaintEvent

    from app.context_use import ContextUse

BAR_HEIGHT = 8
POPUP_WIDTH = 300


class ContextMeter(QPushButton):
    """Says "3,120 of 8,192 tokens"; a click tells what they are."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("quiet")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._use: ContextUse | None = None
        self._popup: ContextPopup | None = None
        self.setAccessibleName(tr("What fills the context"))
        self.clicked.connect(self._open)
        self.hide()

    def show_use(self, use: ContextUse | None) -> None:
        """Show counts; None hides the meter."""
        self._use = use
        self.setVisible(use is not None)
        if use is None:
            return
        text = tr("{used} of {all} tokens").format(used=number_text(use.total), all=number_text(use.context))
        self.setText(text)
        self.setProperty("tone", "warning" if use.full else "")
        self.style().unpolish(self)
        self.style().polish(self)
        self.setAccessibleName(tr("Context: {text}").format(text=text))
        self.setToolTip(tr("What fills the context"))
        if self._popup is not None and self._popup.isVisible():
            self._popup.show_use(use)

    @property
    def popup(self) -> ContextPopup | None:
        """The list, once it was opened."""
        return self._popup

    def _open(self) -> None:
        if self._use is None:
            return
        if self._popup is None:
            self._popup = ContextPopup(self)
        self._popup.show_use(self._use)
        self._popup.adjustSize()
        corner = self.mapToGlobal(QPoint(self.width(), 0))
        self._popup.move(corner - QPoint(self._popup.width(), self._popup.height() + SPACE_S))
        self._popup.show()


class ContextPopup(QFrame):
    """What fills the context, as a bar and as a list."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("popup")
        self.setAccessibleName(tr("What fills the context"))
        self.setMinimumWidth(POPUP_WIDTH)
        self._bar = _Bar()
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(SPACE_L)
        self._grid.setVerticalSpacing(SPACE_S - 2)
        self._grid.setColumnStretch(0, 1)
        self._note = QLabel()
        self._note.setObjectName("dim")
        self._note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_M, SPACE_L, SPACE_M)
        layout.setSpacing(SPACE_M)
        layout.addWidget(self._bar)
        layout.addLayout(self._grid)
        layout.addWidget(self._note)

    def show_use(self, use: ContextUse) -> None:
        """Show counts."""
        rows = self.rows(use)
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        for row, (name, count) in enumerate(rows):
            number = QLabel(number_text(count))
            number.setAlignment(Qt.AlignmentFlag.AlignRight)
            number.setObjectName("figure" if row == len(rows) - 1 else "")
            label = QLabel(name)
            label.setTextFormat(Qt.TextFormat.PlainText)
            self._grid.addWidget(label, row, 0)
            self._grid.addWidget(number, row, 1)
        self._note.setText(tr("The reply may not have the room that is kept for it.") if use.full else "")
        self._note.setVisible(use.full)
        self._bar.show_use(use)

    @staticmethod
    def rows(use: ContextUse) -> list[tuple[str, int]]:
        """Names and tokens, what is empty left out, free tokens last."""
        rows = [
            (tr("System prompt"), use.system),
            (tr("Messages"), use.messages),
            (tr("Attached files"), use.attachments),
            (tr("Draft"), use.draft),
            (tr("Chat template"), use.template),
            (tr("Kept for the reply"), use.reserved),
        ]
        shown = [(name, count) for name, count in rows if count]
        return [*shown, (tr("Free"), max(0, use.context - use.total - use.reserved))]


class _Bar(QWidget):
    """The shares, drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(BAR_HEIGHT)
        self._use: ContextUse | None = None

    def show_use(self, use: ContextUse) -> None:
        """Show counts."""
        self._use = use
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw what is used, and what is kept for the reply."""
        use, theme = self._use, current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        radius = BAR_HEIGHT / 2
        painter.setBrush(QColor(theme.surface_alt))
        painter.drawRoundedRect(QRectF(self.rect()), radius, radius)
        if use is None:
            return
        used = min(1.0, use.total / use.context) * self.width()
        both = min(1.0, (use.total + use.reserved) / use.context) * self.width()
        painter.setBrush(QColor(theme.border))
        painter.drawRoundedRect(QRectF(0, 0, both, BAR_HEIGHT), radius, radius)
        painter.setBrush(QColor(theme.warning if use.full else theme.accent))
        painter.drawRoundedRect(QRectF(0, 0, max(used, BAR_HEIGHT), BAR_HEIGHT), radius, radius)

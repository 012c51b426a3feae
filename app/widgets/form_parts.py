"""Small parts of forms that look the same in both themes: check boxes, spin boxes, byte counts."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractSpinBox, QCheckBox, QDoubleSpinBox, QSizePolicy, QWidget

from app.theme import SPACE_S, current_theme

GIB, MIB = 1 << 30, 1 << 20
_LARGEST_BYTES = 1 << 40
_BOX = 16
_BESIDE_WORDS = _BOX + SPACE_S + 4


class _PassingWheel(QObject):
    """Hands the wheel to what scrolls, where a field is only passed by."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """A field takes the wheel when it has the focus."""
        if event.type() is not QEvent.Type.Wheel or not isinstance(watched, QWidget) or watched.hasFocus():
            return False
        event.ignore()
        return True


def let_wheel_pass(field: QWidget) -> None:
    """Who scrolls a page must not change the values that come under the pointer."""
    field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # Qt's own for some lets the wheel give the focus
    field.installEventFilter(_PassingWheel(field))


def plain_spin(spin: QAbstractSpinBox) -> None:
    """Take the steppers away: arrow keys, wheel and typing remain, and the field keeps the style sheet's shape.

    Not by `NoButtons`: with a style sheet Qt then leaves the editor one pixel of width.
    """
    spin.setStyleSheet(
        "QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 0; border: none; }"
        "QLineEdit { border: none; padding: 0; background: transparent; }"
    )
    spin.lineEdit().setTextMargins(SPACE_S, 0, SPACE_S, 0)
    let_wheel_pass(spin)


class CheckBox(QCheckBox):
    """A check box whose frame can be seen on dark windows too, and whose words go on below where there is no room."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def sizeHint(self) -> QSize:
        """Box, gap and words on one line."""
        words = self.fontMetrics().boundingRect(0, 0, 2000, 100, Qt.TextFlag.TextShowMnemonic, self.text())
        return QSize(_BESIDE_WORDS + words.width(), max(_BOX + 4, words.height() + 4))

    def minimumSizeHint(self) -> QSize:
        """The longest word is never cut."""
        words = self.text().replace("&", "").split()
        longest = max((self.fontMetrics().horizontalAdvance(word) for word in words), default=0)
        return QSize(_BESIDE_WORDS + longest, self.sizeHint().height())

    def heightForWidth(self, width: int) -> int:
        """As many lines as the words need."""
        flags = Qt.TextFlag.TextShowMnemonic | Qt.TextFlag.TextWordWrap
        words = self.fontMetrics().boundingRect(0, 0, width - _BESIDE_WORDS, 10_000, flags, self.text())
        return max(_BOX + 4, words.height() + 4)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw box, tick and words."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(1.0 if self.isEnabled() else 0.5)
        words = QRectF(1 + _BOX + SPACE_S, 0, self.width() - _BESIDE_WORDS, self.height())
        flags = int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextShowMnemonic | Qt.TextFlag.TextWordWrap)
        first_line = painter.boundingRect(words, flags, self.text()).top() + self.fontMetrics().lineSpacing() / 2
        box = QRectF(1, first_line - _BOX / 2, _BOX, _BOX)
        checked = self.isChecked()
        frame = theme.accent if checked or self.hasFocus() else theme.text_dim
        painter.setPen(QPen(QColor(frame), 1.5 if self.hasFocus() else 1))
        painter.setBrush(QColor(theme.accent if checked else theme.surface))
        painter.drawRoundedRect(box, 4, 4)
        if checked:
            painter.setPen(QPen(QColor(theme.accent_text), 2))
            left, top = box.left(), box.top()
            tick = [QPointF(left + 4, top + 8.5), QPointF(left + 7, top + 11.5), QPointF(left + 12, top + 5)]
            painter.drawPolyline(tick)
        if self.hasFocus():
            painter.setPen(QPen(QColor(theme.accent), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(box.adjusted(-1.0, -2.0, 2.0, 2.0), 6, 6)
        painter.setPen(QColor(theme.text))
        painter.drawText(words, flags, self.text())
        painter.end()

    def hitButton(self, position: QPoint) -> bool:
        """All of it can be clicked."""
        return self.rect().contains(position)


class SizeSpin(QDoubleSpinBox):
    """A byte count in GiB, or in MiB where everything is small. Keeps values it was given exactly."""

    size_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        plain_spin(self)
        self._unit = GIB
        self._size_bytes = 0
        self._setting = False
        self.set_scale(_LARGEST_BYTES)
        self.valueChanged.connect(self._edited)

    @property
    def size_bytes(self) -> int:
        """The value."""
        return self._size_bytes

    def set_scale(self, largest_bytes: int) -> None:
        """Choose the unit that suits the largest sensible value."""
        self._unit = GIB if largest_bytes >= 2 * GIB else MIB
        self._setting = True
        self.setDecimals(2 if self._unit == GIB else 1)
        self.setSingleStep(0.25 if self._unit == GIB else 1.0)
        self.setSuffix(" GiB" if self._unit == GIB else " MiB")
        self.setRange(0.0, _LARGEST_BYTES / self._unit)
        self.setValue(self._size_bytes / self._unit)
        self._setting = False

    def set_size(self, size_bytes: int) -> None:
        """Show a value; announced like an edit when it differs."""
        if size_bytes == self._size_bytes:
            return
        self._setting = True
        self.setValue(size_bytes / self._unit)
        self._setting = False
        self._size_bytes = size_bytes
        self.size_changed.emit()

    def _edited(self, value: float) -> None:
        if not self._setting:
            self._size_bytes = round(value * self._unit)
            self.size_changed.emit()

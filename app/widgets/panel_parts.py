"""Small parts of the live panel: the number tiles, the device line, the loading line, section headings."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from app.engine_words import device_words, facts, phase_text, where_words
from app.language import tr
from app.theme import FONT_LARGE, FONT_SMALL, SPACE_S, SPACE_XS, current_theme
from app.units import bytes_text, share_text

if TYPE_CHECKING:
    from app.telemetry import MachineSample
    from engine.messages import Loading, Ready

NO_VALUE = "\N{EN DASH}"
_TIP_CHARS = 64  # Qt breaks no lines of a plain tool tip


def scaled_font(font: QFont, factor: float) -> QFont:
    """The same font in another size."""
    scaled = QFont(font)
    scaled.setPointSizeF(font.pointSizeF() * factor)
    return scaled


class DimLabel(QLabel):
    """Small secondary text that wraps and can be selected.

    Args:
        text: The words.
        parent: Owner.
        lines: Lines to reserve, so that what is below stays where it is.
    """

    def __init__(self, text: str = "", parent: QWidget | None = None, *, lines: int = 1) -> None:
        super().__init__(text, parent)
        self._lines = lines
        self.setObjectName("dim")
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._reserve()

    def changeEvent(self, event: QEvent) -> None:
        """Take another font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._reserve()

    def _reserve(self) -> None:
        if self._lines > 1:
            self.setMinimumHeight(self._lines * self.fontMetrics().lineSpacing())


class SectionHeading(QWidget):
    """A section's name, with a short value at the right."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = QLabel(name, self)
        self._name.setObjectName("figure")
        self._value = DimLabel("", self)
        self._value.setWordWrap(False)
        self._value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._name)
        layout.addWidget(self._value, 1)
        self._value.setAccessibleName(name)

    def put_first(self, widget: QWidget) -> None:
        """Place something before the name."""
        row = self.layout()
        assert isinstance(row, QHBoxLayout)
        row.insertWidget(0, widget)

    def put_last(self, widget: QWidget) -> None:
        """Place something at the right."""
        row = self.layout()
        assert isinstance(row, QHBoxLayout)
        row.addWidget(widget)

    @property
    def value(self) -> str:
        """The text at the right."""
        return self._value.text()

    def set_value(self, text: str) -> None:
        """Change the text at the right."""
        self._value.setText(text)


class NumberTile(QWidget):
    """One large number and what it means; paints itself, as labels would lay the panel out anew at every change.

    Args:
        name: For screen readers, e.g. "Hit rate".
        parent: Owner.
    """

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self.value, self.caption = NO_VALUE, ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.show_value("", "")

    def show_value(self, value: str, caption: str, tip: str = "") -> None:
        """Change number and words; an empty value shows a dash."""
        value = value or NO_VALUE
        if (value, caption, tip) == (self.value, self.caption, self.toolTip()):
            return
        self.value, self.caption = value, caption
        self.setToolTip(tip)
        self.setAccessibleName(f"{self._name}: {tr('no value') if value == NO_VALUE else value}, {caption}")
        if self._fitting_height() != self.height():
            self.updateGeometry()
        self.update()

    def _value_font(self) -> QFont:
        font = scaled_font(self.font(), FONT_LARGE)
        font.setWeight(QFont.Weight.DemiBold)
        return font

    def _fitting_height(self) -> int:
        metrics = QFontMetricsF(scaled_font(self.font(), FONT_SMALL))
        lines = 1 if metrics.horizontalAdvance(self.caption) <= self.width() else 2
        return round(QFontMetricsF(self._value_font()).height() + lines * metrics.height()) + 1

    def sizeHint(self) -> QSize:
        """As high as number and words in this width."""
        return QSize(120, self._fitting_height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Words may need a line more."""
        super().resizeEvent(event)
        if self._fitting_height() != self.height():
            self.updateGeometry()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw the number above its words."""
        theme = current_theme()
        painter = QPainter(self)
        font = self._value_font()
        top = QFontMetricsF(font).height()
        painter.setFont(font)
        painter.setPen(QColor(theme.text))
        painter.drawText(QRectF(0, 0, self.width(), top), Qt.AlignmentFlag.AlignLeft, self.value)
        painter.setFont(scaled_font(self.font(), FONT_SMALL))
        painter.setPen(QColor(theme.text_dim))
        words = QRectF(0, top, self.width(), self.height() - top)
        painter.drawText(words, int(Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextWordWrap), self.caption)
        painter.end()


class DeviceLine(QWidget):
    """Which device does the work, a badge where it is simulated, how the model is computed, and a way to try a GPU."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = QLabel(self)
        self._name.setWordWrap(True)
        self._name.setObjectName("figure")
        self._badge = QLabel(tr("simulated"), self)
        self._badge.setObjectName("badge")
        self._badge.setProperty("tone", "simulated")
        self._badge.setAccessibleName(tr("This GPU is simulated"))
        self._where = QLabel(self)
        self._where.setWordWrap(True)
        self._where.setAccessibleName(tr("Where the experts are, and why"))
        self._detail = DimLabel("", self)
        self._facts = DimLabel("", self)
        self._facts.setAccessibleName(tr("Weights and kernels"))
        self.simulate = QPushButton(tr("Try the simulated GPU"), self)
        self.simulate.setAccessibleDescription(tr("Reloads the model with a GPU that is computed on the CPU."))
        top = QHBoxLayout()
        top.addWidget(self._name, 1)
        top.addWidget(self._badge, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS)
        layout.addLayout(top)
        layout.addWidget(self._where)
        layout.addWidget(self._detail)
        layout.addWidget(self._facts)
        layout.addWidget(self.simulate, 0, Qt.AlignmentFlag.AlignLeft)
        self.setAccessibleName(tr("Device"))
        self.show_device(None, None)

    @property
    def text(self) -> str:
        """All words that are shown."""
        return f"{self._name.text()} {self._detail.text()}".strip()

    @property
    def where(self) -> str:
        """The sentence about the experts' places."""
        return self._where.text()

    @property
    def facts(self) -> tuple[str, str]:
        """How the model is stored and computed, and its tool tip; both empty without a model."""
        return self._facts.text(), self._facts.accessibleDescription()

    @property
    def badge_shown(self) -> bool:
        """Whether the "simulated" badge is shown."""
        return not self._badge.isHidden()

    def show_device(self, ready: Ready | None, machine: MachineSample | None) -> None:
        """Say which device is in use, or would be."""
        name, detail = _device_words(ready, machine)
        load = _load_words(ready, machine)
        self._name.setText(name)
        self._where.setText(where_words(ready) if ready is not None else "")
        self._where.setVisible(bool(self._where.text()))
        self._detail.setText(" \N{MIDDLE DOT} ".join(part for part in (detail, load) if part))
        self._detail.setVisible(bool(self._detail.text()))
        self._show_facts(ready)
        self._badge.setVisible(ready is not None and ready.simulated)
        offered = name == no_gpu_text()
        self.simulate.setVisible(offered)
        self._facts.setContentsMargins(0, 0, 0, SPACE_XS if offered else 0)
        self.setAccessibleDescription(self.text)

    def _show_facts(self, ready: Ready | None) -> None:
        line, tip = facts(ready) if ready is not None else ("", "")
        self._facts.setText(line)
        self._facts.setToolTip(textwrap.fill(tip, _TIP_CHARS))
        self._facts.setAccessibleDescription(tip)
        self._facts.setVisible(bool(line))


def no_gpu_text() -> str:
    """What the device line says where there is no GPU and none was wanted."""
    return tr("No NVIDIA GPU found: every expert runs on the CPU.")


def _device_words(ready: Ready | None, machine: MachineSample | None) -> tuple[str, str]:
    found = machine.gpu_name if machine is not None else None
    if ready is None:
        return (found or (tr("No NVIDIA GPU found.") if machine is not None else tr("Looking for a GPU")), "")
    if ready.simulated:
        size = bytes_text(ready.effective.simulated_vram_bytes)
        return (device_words(ready), tr("{size}; speeds are not a real GPU's").format(size=size))
    if ready.plan.device == "cuda":
        return (device_words(ready), "")
    if found is not None:
        return (tr("Every expert runs on the CPU."), tr("{gpu} is not used").format(gpu=found))
    return (no_gpu_text(), "")


def _load_words(ready: Ready | None, machine: MachineSample | None) -> str:
    if machine is None:
        return ""
    words = f"CPU {share_text(machine.cpu_percent / 100)}"
    real = ready is None or ready.plan.device == "cuda"
    return (
        f"GPU {share_text(machine.gpu_percent / 100)}, {words}" if machine.gpu_percent is not None and real else words
    )


class LoadingLine(QWidget):
    """What a load is doing and how far it is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._words = DimLabel("", self)
        self._bar = QProgressBar(self)
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(6)
        self._bar.setAccessibleName(tr("Loading progress"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_S // 2)
        layout.addWidget(self._words)
        layout.addWidget(self._bar)
        self.hide()

    @property
    def text(self) -> str:
        """The words shown."""
        return self._words.text()

    def show_loading(self, loading: Loading) -> None:
        """Show the phase and its bytes; a moving bar where the size is unknown."""
        words = phase_text(loading.phase)
        if loading.total_bytes > 0:
            done, total = bytes_text(loading.done_bytes), bytes_text(loading.total_bytes)
            words = tr("{what}: {done} of {total}").format(what=words, done=done, total=total)
            self._bar.setRange(0, 1000)
            self._bar.setValue(round(1000 * min(1.0, loading.done_bytes / loading.total_bytes)))
        else:
            self._bar.setRange(0, 0)
        self._words.setText(words)
        self.show()

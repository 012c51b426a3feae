"""What really moved per second beside what this machine can do: one bar for RAM, the link and the GPU's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from app.language import tr, translated
from app.theme import FONT_SMALL, current_theme
from engine.experts.limits import human_rate

if TYPE_CHECKING:
    from engine.experts.limits import Rates

_BAR_HEIGHT = 6
_NO_VALUE = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class RateRow:
    """One rate.

    Attributes:
        key: Name of its colour in the theme.
        name: What moves.
        measured: Bytes per second in the latest pass; None where nothing moved.
        best: What one expert alone reached when the costs were measured; None where it was not.
        meaning: How it is worked out, for the tool tip.
    """

    key: str
    name: str
    measured: float | None
    best: float | None
    meaning: str

    @property
    def words(self) -> str:
        """Both numbers."""
        measured = _NO_VALUE if self.measured is None else translated(human_rate(self.measured))
        return (
            measured
            if self.best is None
            else tr("{rate} / {best}").format(rate=measured, best=translated(human_rate(self.best)))
        )


def rate_rows(measured: Rates, best: Rates, *, has_gpu: bool, simulated: bool) -> tuple[RateRow, ...]:
    """The rows for a machine with or without a GPU."""
    gpu = tr("simulated GPU") if simulated else tr("GPU")
    rows = [
        RateRow(
            "cpu", tr("experts read from RAM"), measured.ram, best.ram,
            tr("Bytes of the experts that ran on the CPU in the last pass, over the measured time of its CPU side."),
        )
    ]  # fmt: skip
    if has_gpu:
        rows.append(
            RateRow(
                "stream", tr("copied to the {gpu}, at least").format(gpu=gpu), measured.link, best.link,
                tr("Bytes of the experts streamed in the last pass, over the measured time of the GPU side in their "
                   "layers. The GPU computed in that time too, so the link was at least as fast."),
            )
        )  # fmt: skip
        rows.append(
            RateRow(
                "gpu", tr("experts read on the {gpu}").format(gpu=gpu), measured.gpu, best.gpu,
                tr("Bytes of the experts that ran on the GPU, over its measured time in layers that streamed nothing."),
            )
        )  # fmt: skip
    return tuple(rows)


class RateBars(QWidget):
    """The rows, each a line of words above a bar."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[RateRow, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Measured rates"))
        self.show_rows(())

    @property
    def rows(self) -> tuple[RateRow, ...]:
        """What is shown."""
        return self._rows

    def show_rows(self, rows: tuple[RateRow, ...]) -> None:
        """Show other values."""
        if len(rows) != len(self._rows):
            self.updateGeometry()
        self._rows = rows
        words = [f"{row.name}: {row.words.replace(_NO_VALUE, tr('not measured'))}" for row in rows]
        self.setAccessibleDescription(tr("Measured in the last pass / reached when the costs were measured. ")
                                      + "; ".join(words))  # fmt: skip
        self.update()

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * FONT_SMALL)
        return font

    def _row_height(self) -> float:
        return QFontMetricsF(self._small_font()).height() + _BAR_HEIGHT + 8

    def sizeHint(self) -> QSize:
        """All rows."""
        return QSize(280, round(len(self._rows) * self._row_height()))

    def minimumSizeHint(self) -> QSize:
        """The same height in any width."""
        return QSize(160, self.sizeHint().height())

    def row_at(self, position: QPointF) -> RateRow | None:
        """The row there."""
        index = int(position.y() // self._row_height())
        return self._rows[index] if 0 <= index < len(self._rows) else None

    def event(self, event: QEvent) -> bool:
        """Tool tips say how a rate is worked out."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            row = self.row_at(QPointF(event.pos()))
            best = tr("After the stroke: what one expert alone reached when the costs were measured.")
            tip = f"<p>{row.meaning}</p><p>{best}</p>" if row is not None else ""
            QToolTip.showText(event.globalPos(), tip, self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw every row."""
        theme, painter = current_theme(), QPainter(self)
        painter.setFont(self._small_font())
        text = QFontMetricsF(self._small_font()).height()
        for index, row in enumerate(self._rows):
            head = QRectF(0, index * self._row_height(), self.width(), text)
            painter.setPen(QColor(theme.text_dim))
            painter.drawText(head, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, row.name)
            painter.setPen(QColor(theme.text))
            painter.drawText(head, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, row.words)
            bar = QRectF(0, head.bottom() + 2, self.width(), _BAR_HEIGHT)
            painter.fillRect(bar, QColor(theme.free))
            scale = max(row.measured or 0.0, row.best or 0.0)
            if row.measured is not None and scale > 0:
                filled = QRectF(bar.left(), bar.top(), bar.width() * row.measured / scale, bar.height())
                painter.fillRect(filled, QColor(getattr(theme, row.key)))
            if row.best is not None and scale > 0:
                x = min(bar.right() - 2, bar.left() + bar.width() * row.best / scale - 2)
                painter.fillRect(QRectF(x, bar.top() - 2, 2, bar.height() + 4), QColor(theme.text))
        painter.end()

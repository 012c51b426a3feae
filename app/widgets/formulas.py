"""Formulas as images: drawn on a thread of their own when they are first shown, then kept.

Until a formula is drawn, and for one that cannot be, its source stands in the text. Images have the text's colour, its
size and the screen's pixel ratio.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PySide6.QtCore import QByteArray, QCoreApplication, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontInfo, QFontMetricsF, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer
from shiboken6 import isValid

from app.math_svg import Drawing, draw, is_drawable

SCALE = 1.14  # STIX's small letters are lower than Inter's
MARGIN = 1 / 32  # empty edge of a drawing, in ems
MAX_KEPT = 1024
MAX_IMAGE_PX = 4096


@dataclass(frozen=True, slots=True)
class FormulaImage:
    """An image whose lower edge is the text's descent, as Qt's `AlignBaseline` wants it, or one for `AlignMiddle`.

    Attributes:
        image: With its device pixel ratio.
        width: In device-independent pixels.
        height: In the same.
        centred: Whether it reaches deeper than the text, and its middle is to be aligned.
    """

    image: QImage
    width: float
    height: float
    centred: bool


class FormulaDrawer(QObject):
    """Draws formulas behind the window's back; one for the application.

    Signals:
        drawn(): One or more formulas that were asked for are there now, or never will be.
    """

    drawn = Signal()
    _done = Signal(str, bool, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="formulas")
        self._known: OrderedDict[tuple[str, bool], Drawing | None] = OrderedDict()
        self._asked: set[tuple[str, bool]] = set()
        self._done.connect(self._take)

    def drawing(self, latex: str, *, display: bool) -> Drawing | None:
        """The drawing, or None where there is none or none yet; then `drawn` tells when to ask again."""
        key = (latex, display)
        if key not in self._known and key not in self._asked and is_drawable(latex):
            self._asked.add(key)
            self._pool.submit(self._work, latex, display)
        return self._known.get(key)

    def waits_for(self, latex: str, *, display: bool) -> bool:
        """Whether it is being drawn."""
        return (latex, display) in self._asked

    def _work(self, latex: str, display: bool) -> None:
        """On the pool's thread."""
        drawing = draw(latex, display=display)
        if isValid(self):  # the window may be gone meanwhile
            self._done.emit(latex, display, drawing)

    def _take(self, latex: str, display: bool, drawing: Drawing | None) -> None:
        self._asked.discard((latex, display))
        self._known[(latex, display)] = drawing
        if len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)
        self.drawn.emit()


def formula_drawer() -> FormulaDrawer:
    """The application's drawer, made when it is first needed."""
    app = QCoreApplication.instance()
    assert app is not None, "formulas are drawn for a window"
    found = app.findChild(FormulaDrawer, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return found if found is not None else FormulaDrawer(app)


def formula_image(drawing: Drawing, font: QFont, colour: str, ratio: float, most_width: float) -> FormulaImage:
    """Paint a drawing.

    Args:
        drawing: What.
        font: Of the text around it.
        colour: Of the text around it.
        ratio: Device pixels per pixel.
        most_width: Wider ones are made smaller.
    """
    em = QFontInfo(font).pixelSize() * SCALE
    em = min(em, most_width / drawing.width) if most_width > 0 else em
    metrics = QFontMetricsF(font)
    lean, below = metrics.xHeight() / 2, metrics.descent()
    ascent, descent = drawing.ascent * em, drawing.descent * em
    centred = descent - MARGIN * em > below + 0.5
    # `AlignMiddle` centres in the line, so the image must be what gives the line its height: (height - lean) / 2 below.
    height = max(2 * descent + lean, 2 * ascent - lean, 2 * metrics.ascent() - lean) if centred else ascent + below
    top = (height + lean) / 2 - ascent if centred else 0.0
    width = drawing.width * em
    ratio = min(ratio, MAX_IMAGE_PX / max(width, height, 1.0))
    image = QImage(
        max(1, round(width * ratio)), max(1, round(height * ratio)), QImage.Format.Format_ARGB32_Premultiplied
    )
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    area = QRectF(0, top * ratio, width * ratio, (ascent + descent) * ratio)
    QSvgRenderer(QByteArray(drawing.svg.encode())).render(painter, area)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceIn)
    painter.fillRect(image.rect(), QColor(colour))
    painter.end()
    image.setDevicePixelRatio(ratio)
    return FormulaImage(image, width, height, centred)

"""Icons: our own SVG files, recoloured for the theme and sharp at every scale."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

ICON_SIZES = (16, 20, 24, 32, 40, 48, 64)
APP_ICON_SIZES = (16, 24, 32, 48, 64, 128, 256)
ICON_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "icons"


@lru_cache(maxsize=128)
def icon(name: str, colour: str) -> QIcon:
    """One of `resources/icons`, its black drawn in `colour` ("#rrggbb")."""
    svg = (ICON_FOLDER / f"{name}.svg").read_text(encoding="utf-8").replace("#000000", colour)
    return _render(svg, ICON_SIZES)


@lru_cache(maxsize=1)
def app_icon() -> QIcon:
    """The application's icon."""
    return _render((ICON_FOLDER / "rooftop.svg").read_text(encoding="utf-8"), APP_ICON_SIZES)


def _render(svg: str, sizes: tuple[int, ...]) -> QIcon:
    renderer = QSvgRenderer(QByteArray(svg.encode()))
    result = QIcon()
    for size in sizes:
        pixmap = QPixmap(QSize(size, size))
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        renderer.render(painter, QRectF(0, 0, size, size))
        painter.end()
        result.addPixmap(pixmap)
    return result

"""The live panel's menu: save it as a picture or as values, fold or unfold everything."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QBuffer, QByteArray, QEvent, QIODevice, QObject, QPoint, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QImage, QImageWriter, QPainter
from PySide6.QtWidgets import QFileDialog, QMenu, QToolButton

from app.engine_words import device_words
from app.icons import icon
from app.language import tr
from app.panel_export import panel_values, write_values
from app.theme import FONT_SMALL, FONT_TITLE, SPACE_L, SPACE_S, current_theme

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.widgets.engine_panel import EnginePanel

log = logging.getLogger(__name__)

Kind = Literal["png", "json"]

PICTURE_SCALE = 2
_ICON_PX = 18


class PanelMenu(QObject):
    """The menu and what it does.

    Args:
        panel: Whose menu it is.
    """

    def __init__(self, panel: EnginePanel) -> None:
        super().__init__(panel)
        self._panel = panel
        self.button = QToolButton(panel)
        self.button.setObjectName("panelMenu")
        self.button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.button.setIconSize(QSize(_ICON_PX, _ICON_PX))
        self.button.setToolTip(tr("Save or arrange the live panel"))
        self.button.setAccessibleName(tr("Live panel's menu"))
        menu = QMenu(self.button)
        menu.addAction(tr("Save as picture (PNG)…")).triggered.connect(lambda: self.ask_and_save("png"))
        menu.addAction(tr("Save values (JSON)…")).triggered.connect(lambda: self.ask_and_save("json"))
        menu.addSeparator()
        menu.addAction(tr("Unfold all")).triggered.connect(lambda: self._fold_all(fold=False))
        menu.addAction(tr("Fold all")).triggered.connect(lambda: self._fold_all(fold=True))
        self.button.setMenu(menu)
        self.button.installEventFilter(self)
        self._restyle()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take another theme."""
        if event.type() == QEvent.Type.PaletteChange:
            self._restyle()
        return super().eventFilter(watched, event)

    def _restyle(self) -> None:
        self.button.setIcon(icon("more", current_theme().text))

    def _fold_all(self, *, fold: bool) -> None:
        for section in self._panel.sections:
            section.set_open(open_now=not fold)

    def ask_and_save(self, kind: Kind) -> None:
        """Ask for a file, then save."""
        titles = {"png": tr("Save the live panel as a picture"), "json": tr("Save the live panel's values")}
        name = f"rooftop-{datetime.now().astimezone():%Y-%m-%d-%H%M%S}.{kind}"
        path, _ = QFileDialog.getSaveFileName(self._panel, titles[kind], name, f"*.{kind}")
        if path:
            self.save(kind, Path(path))

    def save(self, kind: Kind, path: Path) -> None:
        """Save to a file; the panel says where, or why not."""
        now = datetime.now().astimezone()
        try:
            if kind == "json":
                write_values(panel_values(self._panel.state, now), path)
            else:
                path.write_bytes(_as_png(draw_picture(self._panel, self._panel.content, now)))
        except OSError as error:
            log.warning("The live panel could not be saved: %s", error.strerror or error)
            words = tr("{path} could not be saved: {reason}. Choose another folder.")
            self._panel.problem.emit(words.format(path=path, reason=error.strerror or error))
        else:
            self._panel.saved.emit(tr("Saved as {path}").format(path=path))


def draw_picture(panel: EnginePanel, content: QWidget, now: datetime) -> QImage:
    """All of the panel, what is scrolled away too, below a title with model, device and date.

    Args:
        panel: Its state names model and device.
        content: What is drawn.
        now: The date.
    """
    theme, ready = current_theme(), panel.state.ready
    title_font, small_font = QFont(panel.font()), QFont(panel.font())
    title_font.setPointSizeF(panel.font().pointSizeF() * FONT_TITLE * 0.75)
    title_font.setWeight(QFont.Weight.DemiBold)
    small_font.setPointSizeF(panel.font().pointSizeF() * FONT_SMALL)
    title_height = QFontMetricsF(title_font).height()
    head = round(SPACE_L + title_height + QFontMetricsF(small_font).height() + SPACE_S)
    width, height = content.width() + SPACE_L, content.height() + head
    image = QImage(width * PICTURE_SCALE, height * PICTURE_SCALE, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(PICTURE_SCALE)
    image.fill(QColor(theme.window))
    painter = QPainter(image)
    left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
    painter.setFont(title_font)
    painter.setPen(QColor(theme.text))
    painter.drawText(QRectF(SPACE_L, SPACE_L, width - 2 * SPACE_L, title_height), left, _title(panel))
    painter.setFont(small_font)
    painter.setPen(QColor(theme.text_dim))
    device = f"{device_words(ready)} \N{MIDDLE DOT} " if ready is not None else ""
    words = f"Rooftop \N{MIDDLE DOT} {device}{now:%Y-%m-%d %H:%M}"
    painter.drawText(
        QRectF(SPACE_L, SPACE_L + title_height, width - 2 * SPACE_L, head), Qt.AlignmentFlag.AlignLeft, words
    )
    content.render(painter, QPoint(0, head))
    painter.end()
    return image


def _as_png(image: QImage) -> bytes:
    """The file's bytes."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    QImageWriter(buffer, QByteArray(b"png")).write(image)
    return bytes(buffer.data().data())


def _title(panel: EnginePanel) -> str:
    """Model, and the token where one is chosen."""
    state = panel.state
    name = state.ready.model.name if state.ready is not None else tr("No model is loaded.")
    if state.token is None:
        return name
    token = tr("token {number}").format(number=state.token.record.position + 1)
    return f"{name}, {token}"

"""A piece of text as tall as its content: prose of a reply, or a message of the user. Loads nothing, opens nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize, Qt, QUrl, Signal
from PySide6.QtGui import QImage, QTextBlockFormat, QTextCursor, QTextOption
from PySide6.QtWidgets import QFrame, QSizePolicy, QTextBrowser, QWidget

from app.stylesheet import document_css
from app.theme import LINE_HEIGHT_PERCENT, current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent, QWheelEvent

MIN_WIDTH = 40


class TextBlock(QTextBrowser):
    """Safe HTML or plain text without scroll bars; its height follows its width.

    Signals:
        link_clicked(str): The user wants to open an address; nothing has been opened.
    """

    link_clicked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._html: str | None = None
        self._fitted_width = -1
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setOpenLinks(False)
        self.setOpenExternalLinks(False)
        self.setUndoRedoEnabled(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.viewport().setAutoFillBackground(False)
        self.document().setDocumentMargin(0)
        self.anchorClicked.connect(lambda url: self.link_clicked.emit(url.toString()))

    def show_html(self, html: str) -> None:
        """Show safe HTML made by `app.markdown`."""
        self._html = html
        self._apply_css()
        self.setHtml(html)
        self._fit(force=True)

    def show_plain(self, text: str) -> None:
        """Show text verbatim."""
        self._html = None
        self.setPlainText(text)
        spaced = QTextBlockFormat()
        spaced.setLineHeight(LINE_HEIGHT_PERCENT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.mergeBlockFormat(spaced)
        self._fit(force=True)

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        if self._html is not None:
            self.show_html(self._html)
        else:
            self._fit(force=True)

    def ideal_width(self, limit: int) -> int:
        """The width that the text would like, at most `limit`."""
        self.document().setTextWidth(limit)
        return min(limit, math.ceil(self.document().idealWidth()) + 2)

    def loadResource(self, _type: int, _name: QUrl | str) -> object:
        """Answer every request for a resource with a blank image, so that Qt looks nowhere."""
        return QImage(1, 1, QImage.Format.Format_ARGB32)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the width."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit(force=True)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave scrolling to the transcript."""
        event.ignore()

    def minimumSizeHint(self) -> QSize:
        """Any width will do."""
        return QSize(MIN_WIDTH, 0)

    def _apply_css(self) -> None:
        self.document().setDefaultStyleSheet(document_css(current_theme()))

    def _fit(self, *, force: bool = False) -> None:
        width = self.viewport().width()
        if width < MIN_WIDTH or (width == self._fitted_width and not force):
            return
        self._fitted_width = width
        self.document().setTextWidth(width)
        self.setFixedHeight(max(1, math.ceil(self.document().size().height())))

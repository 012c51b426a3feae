"""A piece of text as tall as its content: prose of a reply, or a message of the user. Loads nothing, opens nothing."""

from __future__ import annotations

import html as html_module
import math
import re
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QMimeData, QRect, QSize, Qt, QUrl, Signal
from PySide6.QtGui import QImage, QTextBlockFormat, QTextCharFormat, QTextCursor, QTextOption
from PySide6.QtWidgets import QFrame, QSizePolicy, QTextBrowser, QWidget

from app.math_markdown import FORMULA, SCHEME, formula_of, formula_source
from app.stylesheet import document_css
from app.theme import LINE_HEIGHT_PERCENT, current_theme
from app.widgets.formulas import FormulaDrawer, FormulaImage, formula_drawer, formula_image
from app.widgets.marks import OBJECT, ShownText, selections
from app.widgets.prose_code import prose_code, with_colours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtGui import QResizeEvent, QTextImageFormat, QWheelEvent

    from app.text_search import Needle
    from app.widgets.prose_code import Key

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
        self._images: dict[str, FormulaImage] = {}
        self._waiting = False
        self._uncoloured: set[Key] = set()
        self._matches: list[int] = []
        self._marks: tuple[Needle, int | None] | None = None
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
        self.setHtml(self._with_formulas(self._with_code(html)))
        self._align_formulas()
        described = self.search_text() if self._images else ""  # what a screen reader cannot see in an image
        if described != self.accessibleDescription():
            self.setAccessibleDescription(described)
        self._fit(force=True)
        if self._marks is not None:
            self.show_marks(*self._marks)

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
        wanted = min(limit, math.ceil(self.document().idealWidth()) + 2)
        if self._fitted_width > 0:  # where the width stays, no resize follows: Arabic would lie beyond the right edge
            self.document().setTextWidth(self._fitted_width)
        return wanted

    def loadResource(self, _type: int, _name: QUrl | str) -> object:
        """Answer with a formula of ours, and every other request with a blank image, so that Qt looks nowhere."""
        formula = self._images.get(_name.toString() if isinstance(_name, QUrl) else _name)
        return formula.image if formula is not None else QImage(1, 1, QImage.Format.Format_ARGB32)

    def createMimeDataFromSelection(self) -> QMimeData:
        """What is copied holds the source of its formulas."""
        cursor = self.textCursor()
        if OBJECT not in cursor.selectedText():
            return super().createMimeDataFromSelection()
        data = QMimeData()
        data.setText(self._plain(cursor.selectionStart(), cursor.selectionEnd()))
        return data

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the width."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit(force=True)

    def event(self, event: QEvent) -> bool:
        """Follow the screen's pixel ratio."""
        if event.type() == QEvent.Type.DevicePixelRatioChange and self._images and self._html is not None:
            self.show_html(self._html)
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave scrolling to the transcript."""
        event.ignore()

    def minimumSizeHint(self) -> QSize:
        """Any width will do."""
        return QSize(MIN_WIDTH, 0)

    # ---- finding ------------------------------------------------------------------------------------------------

    def show_marks(self, needle: Needle, current: int | None) -> int:
        """Mark the matches, one of them as the current one; returns how many there are."""
        self._marks = None if needle.empty else (needle, current)
        marks, self._matches = selections(self.document(), needle, self._shown_text(), current)
        self.setExtraSelections(marks)
        return len(self._matches)

    def search_text(self) -> str:
        """The text, formulas as their source."""
        return self._shown_text().text

    def _shown_text(self) -> ShownText:
        images = {place: _source(image) for place, image in self._image_fragments()} if self._images else {}
        return ShownText(self.toPlainText(), images)

    def match_rect(self, ordinal: int) -> QRect:
        """Where a match begins."""
        cursor = QTextCursor(self.document())
        cursor.setPosition(self._matches[ordinal])
        return self.cursorRect(cursor)

    # ---- code ---------------------------------------------------------------------------------------------------

    def _with_code(self, html: str) -> str:
        """The HTML with the colours that its code has by now; what grows asks for more when it has the last."""
        html, lacking = with_colours(html)
        if self._uncoloured or not lacking:
            return html
        self._uncoloured = set(lacking)
        prose_code().coloured.connect(self._code_coloured)
        for key in lacking:
            prose_code().ask(key)
        return html

    def _code_coloured(self, key: Key) -> None:
        self._uncoloured.discard(key)
        if self._uncoloured:
            return
        prose_code().coloured.disconnect(self._code_coloured)
        self._show_again()

    # ---- formulas -----------------------------------------------------------------------------------------------

    def _with_formulas(self, html: str) -> str:
        """The HTML with formulas that are drawn as images, and the others as their source."""
        self._images.clear()
        if f'"{SCHEME}:' not in html:
            return html
        drawer = formula_drawer()
        waits = False

        def shown(found: re.Match[str]) -> str:
            nonlocal waits
            address = f"{SCHEME}:{found[1]}{found[2]}"
            latex, display = formula_of(address)
            drawing = drawer.drawing(latex, display=display)
            if drawing is None:
                waits = waits or drawer.waits_for(latex, display=display)
                return f"<code>{html_module.escape(formula_source(latex, display=display))}</code>"
            limit = self.viewport().width() - 2 if display else 0
            colour = self.palette().text().color().name()
            self._images[address] = formula_image(drawing, self.font(), colour, self.devicePixelRatioF(), limit)
            return found[0]

        text = FORMULA.sub(shown, html)
        self._await(drawer, waits)
        return text

    def _await(self, drawer: FormulaDrawer, waits: bool) -> None:
        if waits and not self._waiting:
            drawer.drawn.connect(self._show_again)
        elif self._waiting and not waits:
            drawer.drawn.disconnect(self._show_again)
        self._waiting = waits

    def _show_again(self) -> None:
        """Show what is drawn or coloured now; a selection must not be lost by it."""
        if self._html is not None and not self.textCursor().hasSelection():
            self.show_html(self._html)

    def _align_formulas(self) -> None:
        """Give images their size, and put their baseline on the text's."""
        if not self._images:
            return
        for start, fragment_format in list(self._image_fragments()):
            image = self._images.get(fragment_format.name())
            if image is None:
                continue
            fragment_format.setWidth(image.width)
            fragment_format.setHeight(image.height)
            alignment = QTextCharFormat.VerticalAlignment
            fragment_format.setToolTip(_source(fragment_format))
            fragment_format.setVerticalAlignment(alignment.AlignMiddle if image.centred else alignment.AlignBaseline)
            cursor = QTextCursor(self.document())
            cursor.setPosition(start)
            cursor.setPosition(start + 1, QTextCursor.MoveMode.KeepAnchor)
            cursor.setCharFormat(fragment_format)

    def _image_fragments(self) -> Iterator[tuple[int, QTextImageFormat]]:
        """Position and format of every image."""
        block = self.document().begin()
        while block.isValid():
            fragments = block.begin()
            while not fragments.atEnd():
                fragment = fragments.fragment()
                if fragment.charFormat().isImageFormat():
                    for offset in range(fragment.length()):
                        yield fragment.position() + offset, fragment.charFormat().toImageFormat()
                fragments += 1
            block = block.next()

    def _plain(self, start: int, end: int) -> str:
        """A part of the text, formulas as their source."""
        cursor = QTextCursor(self.document())
        parts, position = [], start
        for place, image in [*self._image_fragments(), (end, None)]:
            if not start <= place <= end:
                continue
            cursor.setPosition(position)
            cursor.setPosition(place, QTextCursor.MoveMode.KeepAnchor)
            parts.append(cursor.selection().toPlainText())
            if image is not None and place < end:
                parts.append(_source(image))
            position = place + 1
        return "".join(parts)

    def _apply_css(self) -> None:
        self.document().setDefaultStyleSheet(document_css(current_theme()))

    def _fit(self, *, force: bool = False) -> None:
        width = self.viewport().width()
        if width < MIN_WIDTH or (width == self._fitted_width and not force):
            return
        refit = self._fitted_width not in (-1, width) and bool(self._images)
        self._fitted_width = width
        if refit and self._html is not None:
            self.show_html(self._html)
            return
        if self.document().textWidth() != width:  # setting it lays everything out anew, also where it is the same
            self.document().setTextWidth(width)
        self.setFixedHeight(max(1, math.ceil(self.document().size().height())))


def _source(image: QTextImageFormat) -> str:
    """What the image of a formula stands for."""
    latex, display = formula_of(image.name())
    return formula_source(latex, display=display)

"""A reply as a column of blocks, of which only the last is rendered anew while text arrives.

Earlier blocks are frozen, and so are the earlier rows of a long table. One huge live block makes rendering slower than
the screen needs; then the view waits in proportion to what the last rendering took. A finished reply joins its
neighbouring prose.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.language import tr
from app.theme import BLOCK_GAP_PX
from app.widgets.code_block import CodeBlock
from app.widgets.marks import Markable
from app.widgets.table_block import TableBlock
from app.widgets.text_block import TextBlock

if TYPE_CHECKING:
    from app.markdown import Block

BACK_OFF_FACTOR = 6
MIN_DELAY_MS = 16
MAX_BLOCKS = 500
_WIDGETS: dict[str, type[TextBlock | CodeBlock]] = {"prose": TextBlock, "code": CodeBlock, "table": TableBlock}


class MarkdownView(QWidget):
    """Markdown that may still be growing.

    Signals:
        link_clicked(str): The user wants to open an address; nothing has been opened.
    """

    link_clicked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source = ""
        self._frozen = 0
        self._cut = False
        self._tail_start = 0
        self._blocks: list[TextBlock | CodeBlock] = []
        self._last_cost_s = 0.0
        self._last_render_s = 0.0
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(BLOCK_GAP_PX)
        self._late = QTimer(self, singleShot=True)
        self._late.timeout.connect(self._render_tail)

    @property
    def source(self) -> str:
        """The Markdown shown."""
        return self._source

    @property
    def cut(self) -> bool:
        """Whether there are more blocks than are shown."""
        return self._cut

    @property
    def blocks(self) -> list[TextBlock | CodeBlock]:
        """The widgets, top to bottom."""
        return list(self._blocks)

    @property
    def markable(self) -> list[Markable]:
        """The texts, for marks."""
        return [block.markable if isinstance(block, CodeBlock) else block for block in self._blocks]

    def append(self, text: str) -> None:
        """Add text that has just arrived."""
        self._source += text.replace("\r", "")
        wait_s = self._last_render_s + BACK_OFF_FACTOR * self._last_cost_s - time.monotonic()
        if wait_s <= 0:
            self._render_tail()
        elif not self._late.isActive():
            self._late.start(max(MIN_DELAY_MS, int(wait_s * 1000)))

    def finish(self) -> None:
        """The reply is complete: show all of it, with the prose joined."""
        from app.markdown import merge_prose, split_blocks

        self._late.stop()
        self._frozen = self._tail_start = 0
        self._show_blocks(merge_prose(split_blocks(self._source)))

    def show_source(self, source: str) -> None:
        """Show a complete text."""
        self._source = source.replace("\r\n", "\n").replace("\r", "\n")
        self.finish()

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        for block in self._blocks:
            block.restyle()

    def _render_tail(self) -> None:
        from app.markdown import split_blocks

        started = time.monotonic()
        if self._frozen >= MAX_BLOCKS:
            self._cut = True
            return
        blocks = split_blocks(self._source[self._tail_start :])
        self._show_blocks(blocks)
        if blocks:
            self._frozen += len(blocks) - 1
            self._tail_start += blocks[-1].start
        self._last_render_s = time.monotonic()
        self._last_cost_s = self._last_render_s - started

    def _show_blocks(self, contents: list[Block]) -> None:
        """Make the widgets after the frozen ones show these contents, re-using widgets of the same kind."""
        self._cut = self._frozen + len(contents) > MAX_BLOCKS
        contents = contents[: max(0, MAX_BLOCKS - self._frozen)]
        for index, content in enumerate(contents, start=self._frozen):
            block = self._widget_at(index, _WIDGETS[content.kind])
            if isinstance(block, CodeBlock):
                block.show_code(content.text, content.language)
            elif isinstance(block, TableBlock):
                block.show_rows(content.rows)
            else:
                block.show_html(content.html)
        while len(self._blocks) > self._frozen + len(contents):
            self._remove(self._blocks.pop())

    def _widget_at(self, index: int, kind: type[TextBlock | CodeBlock]) -> TextBlock | CodeBlock:
        if index < len(self._blocks):
            if type(self._blocks[index]) is kind:
                return self._blocks[index]
            self._remove(self._blocks.pop(index))
        block = kind(self)
        if isinstance(block, TextBlock):
            block.link_clicked.connect(self.link_clicked)
            block.setAccessibleName(tr("Reply text"))
        self._blocks.insert(index, block)
        self._layout.insertWidget(index, block)
        return block

    def _remove(self, block: QWidget) -> None:
        self._layout.removeWidget(block)
        block.hide()
        block.deleteLater()

"""Colours for code inside prose, as in a list or a quotation, without holding the window up.

Short code has its colours at once. Longer code is read a slice in each turn of the event loop, beginning when its lexer
has been loaded; meanwhile the lines that were coloured before keep their colours, and the others are plain.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from html import escape, unescape

from PySide6.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

from app.highlight import MAX_HIGHLIGHTED_CHARS, LineSpans, Span, highlight_lines
from app.widgets.lexers import lexer_loader

SLICE_CHARS = 4000
KEPT_CODES = 64
PRE = re.compile(r'<pre lang="([^"]+)">(.*?)</pre>', re.DOTALL)  # as `app.markdown` writes it

Key = tuple[str, str]  # language and code


class ProseCode(QObject):
    """What is coloured and what waits for it; one for the application.

    Signals:
        coloured(object): This `Key` has its colours now.
    """

    coloured = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._kept: OrderedDict[Key, list[str]] = OrderedDict()
        self._waiting: OrderedDict[Key, LineSpans | None] = OrderedDict()
        self._turn = QTimer(self, singleShot=True, interval=0)
        self._turn.timeout.connect(self._colour_some)
        lexer_loader().loaded.connect(self._lexer_loaded)

    def html(self, key: Key) -> str:
        """The code as HTML with a class per kind of span, as far as they are known now."""
        language, code = key
        if key not in self._kept and len(code) <= SLICE_CHARS and lexer_loader().has(language):
            self._keep(key, highlight_lines(code, language))
        if key in self._kept:
            self._kept.move_to_end(key)
            return "\n".join(self._kept[key])
        lines = self._known_lines(key)
        rest = code.split("\n")[len(lines) :]
        return "\n".join([*lines, *(escape(line) for line in rest)])

    def lacks(self, key: Key) -> bool:
        """Whether it will have more colours than now."""
        return key not in self._kept and len(key[1]) <= MAX_HIGHLIGHTED_CHARS

    def ask(self, key: Key) -> None:
        """Have it coloured; `coloured` tells when."""
        if self.lacks(key):
            self._waiting.setdefault(key, None)
            self._turn.start()

    def _known_lines(self, key: Key) -> list[str]:
        """Lines that are coloured because this code has grown from another, but for the last one of that."""
        language, code = key
        for (other, shorter), lines in reversed(self._kept.items()):
            if other == language and len(shorter) > SLICE_CHARS // 2 and code.startswith(shorter):
                return lines[:-1]
        return []

    def _lexer_loaded(self, _language: str) -> None:
        self._turn.start()

    def _colour_some(self) -> None:
        loader = lexer_loader()
        key = next((key for key in self._waiting if loader.has(key[0])), None)
        if key is None:
            return  # a lexer is being loaded, or nothing is left
        run = self._waiting[key] or LineSpans(key[1], key[0])
        self._waiting[key] = run
        if not run.advance(SLICE_CHARS):
            del self._waiting[key]
            self._keep(key, run.lines)
            self.coloured.emit(key)
        self._turn.start()

    def _keep(self, key: Key, spans: list[list[Span]]) -> None:
        self._kept[key] = [_line_html(line, there) for line, there in zip(key[1].split("\n"), spans, strict=False)]
        while len(self._kept) > KEPT_CODES:
            self._kept.popitem(last=False)


def _line_html(line: str, spans: list[Span]) -> str:
    parts, position = [], 0
    for span in spans:
        parts.append(escape(line[position : span.start]))
        position = span.start + span.length
        parts.append(f'<span class="{span.kind}">{escape(line[span.start : position])}</span>')
    return "".join(parts) + escape(line[position:])


def prose_code() -> ProseCode:
    """The application's, made when it is first needed."""
    app = QCoreApplication.instance()
    assert app is not None, "code is coloured for a window"
    found = app.findChild(ProseCode, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return found if found is not None else ProseCode(app)


def with_colours(html: str) -> tuple[str, list[Key]]:
    """HTML of `app.markdown` with its code coloured as far as that is known; and the code that waits for more."""
    if "<pre lang" not in html:
        return html, []
    code, lacking = prose_code(), []

    def shown(found: re.Match[str]) -> str:
        key = (unescape(found[1]), unescape(found[2]))
        text = code.html(key)
        if code.lacks(key):
            lacking.append(key)
        return f"<pre>{text}</pre>"

    return PRE.sub(shown, html), lacking

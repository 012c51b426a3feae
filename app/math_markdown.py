r"""Formulas in Markdown: `$..$`, `$$..$$`, `\(..\)` and `\[..\]`, as rules for markdown-it. Knows nothing of Qt.

A formula becomes an image whose address holds its source, of our own scheme. A dollar is money where it does not hug a
formula: `$5 and $10` stays text. Work is linear: a delimiter looks for its partner within `MAX_CHARS` only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it.common.utils import escapeHtml

from app.math_svg import MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererProtocol
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

SCHEME = "rooftop-math"
MAX_LINES = 60
FORMULA = re.compile(rf'<img src="{SCHEME}:([id])([0-9a-f]+)" />')
_DELIMITERS = (("$$", "$$", "d"), ("\\[", "\\]", "d"), ("\\(", "\\)", "i"), ("$", "$", "i"))
_MONEY = re.compile(r"[\d.,]+(k|m|bn)?[\s,;.?!-]+[A-Za-z]{2}[^\\^_={}]*", re.IGNORECASE)


def install(markdown: MarkdownIt) -> None:
    """Teach a parser formulas."""
    markdown.inline.ruler.before("escape", "formula", _inline)
    alternatives = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    markdown.block.ruler.before("fence", "formula_block", _block, alternatives)  # type: ignore[arg-type]
    markdown.add_render_rule("formula", _render)
    markdown.add_render_rule("formula_block", _render)


def formula_of(address: str) -> tuple[str, bool]:
    """Source of a formula, and whether it is displayed, from the address of its image.

    Raises:
        ValueError: It is none of ours.
    """
    scheme, _, rest = address.partition(":")
    if scheme != SCHEME or rest[:1] not in ("i", "d"):
        raise ValueError(address)
    return bytes.fromhex(rest[1:]).decode(), rest[0] == "d"


def formula_source(latex: str, *, display: bool) -> str:
    """A formula as it is copied."""
    return f"$${latex}$$" if display else f"${latex}$"


def _inline(state: StateInline, silent: bool) -> bool:
    source, start = state.src, state.pos
    for opening, closing, kind in _DELIMITERS:
        if source.startswith(opening, start):
            first = start + len(opening)
            end = source.find(closing, first, min(state.posMax, first + MAX_CHARS))
            if end < 0 or not _is_formula(source, start, first, end, opening):
                return False
            if not silent:
                token = state.push("formula", "img", 0)
                token.content, token.markup = source[first:end].strip(), kind
            state.pos = end + len(closing)
            return True
    return False


def _is_formula(source: str, start: int, first: int, end: int, opening: str) -> bool:
    """Whether what two delimiters enclose is a formula."""
    inside, before, after = source[first:end], source[start - 1 : start], source[end + 1 : end + 2]
    if not inside.strip():
        return False
    if opening != "$":
        return True
    hugged = not inside[0].isspace() and not inside[-1].isspace() and inside[-1] != "\\"
    return hugged and not before.isalnum() and not after.isalnum() and not _MONEY.fullmatch(inside)


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A displayed formula that begins a line and ends one, perhaps a later one."""
    if state.is_code_block(start_line):
        return False
    first = state.bMarks[start_line] + state.tShift[start_line]
    head = state.src[first : state.eMarks[start_line]]
    closing = {"$$": "$$", "\\[": "\\]"}.get(head[:2])
    if closing is None:
        return False
    text, line = head[2:], start_line
    while not text.rstrip().endswith(closing):
        line += 1
        if closing in text or line >= min(end_line, start_line + MAX_LINES) or len(text) > MAX_CHARS:
            return False
        text += "\n" + state.getLines(line, line + 1, state.blkIndent, False).rstrip("\n")  # noqa: FBT003
    latex = text.rstrip().removesuffix(closing).strip()
    if not latex or closing in latex:
        return False
    if not silent:
        state.line = line + 1
        token = state.push("formula_block", "img", 0)
        token.block, token.map, token.content, token.markup = True, [start_line, line + 1], latex, "d"
    return True


def _render(_self: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType) -> str:
    token = tokens[index]
    image = f'<img src="{SCHEME}:{token.markup}{escapeHtml(token.content.encode(errors="replace").hex())}" />'
    return f'<p align="center" class="formula">{image}</p>' if token.block else image

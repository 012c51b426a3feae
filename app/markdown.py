"""Markdown -> blocks of safe HTML. Knows nothing of Qt.

Raw HTML stays literal text, an image becomes its description in words, and only http and https links are links.
A reply is cut into its top-level blocks, so that the window re-renders only the last one while text arrives; of a long
table it is the last rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape, unescape
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml

from app import math_markdown
from app.long_fences import long_fences
from app.long_tables import LongTable, fence_after, long_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.renderer import RendererProtocol
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

MAX_LINK_CHARS = 2048
MAX_NESTING = 20
MAX_LINE_CHARS = 2000
MAX_MERGED_CHARS = 20_000
PARSED_PIECES = 64  # of long tables: a reply with 2,500 rows is parsed once
_BREAK = re.compile(r"<br ?/?>|</(?:p|li|h\d|td|th|tr|pre|blockquote)>")
_TAG = re.compile(r"<[^>]*>")
_ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A top-level block, or several of prose in one.

    Attributes:
        kind: "prose" has `html`; "code" has `text` and `language`; a long "table" has `html` and `rows`.
        start: Offset of its first character in the source.
        html: Safe HTML without colours or sizes; `app.stylesheet.document_css` gives them.
        text: Code, verbatim.
        language: First word of the fence's info string.
        joins: Whether neighbouring prose may share its document; Qt leaves no gap around a table.
        rows: The HTML of each row, its heading first.
    """

    kind: Literal["prose", "code", "table"]
    start: int
    html: str = ""
    text: str = ""
    language: str = ""
    joins: bool = True
    rows: tuple[str, ...] = ()


def split_blocks(source: str) -> list[Block]:
    """Cut Markdown, its lines ended by newlines alone, into its top-level blocks, in order.

    A line of prose longer than `MAX_LINE_CHARS` is cut into pieces first, each a block: neither the parser nor Qt
    has to lay it out whole, and while it grows only its last piece is rendered anew.
    """
    blocks: list[Block] = []
    position = 0
    for table in long_tables(source):
        block = _table_block(table)
        if block is not None:
            blocks += [*_blocks_between(source, position, table.start), block]
            position = table.end
    return blocks + _blocks_between(source, position, len(source))


def _blocks_between(source: str, start: int, end: int) -> list[Block]:
    """The blocks of a part without long tables."""
    blocks: list[Block] = []
    position = start
    for fence in long_fences(source[start:end]):
        blocks += _short_blocks(source, position, start + fence.start)
        text, language = fence.code.replace("\0", "\N{REPLACEMENT CHARACTER}"), _first_word(fence.info)
        blocks.append(Block("code", start + fence.start, text=text.removesuffix("\n"), language=language))
        position = start + fence.end
    return blocks + _short_blocks(source, position, end)


def _short_blocks(source: str, start: int, end: int) -> list[Block]:
    """The blocks of a part that the parser takes as it is, but for overlong lines."""
    part = source[start:end]
    blocks: list[Block] = []
    for first, last in pairwise([0, *_long_line_cuts(part), len(part)]):
        blocks += [replace(block, start=block.start + start + first) for block in _parse_blocks(part[first:last])]
    return blocks


def _table_block(table: LongTable) -> Block | None:
    """A long table, parsed piece by piece; None where it is no table, or has formulas, which come later and larger."""
    parsed = [_table_html(table.head, rows) for rows in table.pieces]
    if not all(parsed) or any(f'"{math_markdown.SCHEME}:' in html for html in parsed):
        return None
    rows = [row for html in parsed for row in _ROW.findall(html)[1:]]
    head = _ROW.findall(parsed[0])[0]
    html = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    return Block("table", table.start, html=html, joins=False, rows=(head, *rows))


@lru_cache(maxsize=PARSED_PIECES)
def _table_html(head: str, rows: str) -> str:
    """The HTML of a table, "" where these lines are something else."""
    blocks = _parse_blocks(head + rows)
    return blocks[0].html if len(blocks) == 1 and blocks[0].html.startswith("<table") else ""


def _long_line_cuts(source: str) -> list[int]:
    """Where overlong lines outside of fences are cut, after white space if there is any; stable while text is added."""
    cuts: list[int] = []
    if len(source) <= MAX_LINE_CHARS:
        return cuts
    start, fence = 0, ""
    for line in source.split("\n"):
        fence = fence_after(line, fence)
        end, first = start + len(line), start
        while not fence and end - first > MAX_LINE_CHARS:
            space = source.rfind(" ", first + MAX_LINE_CHARS // 2, first + MAX_LINE_CHARS)
            first = space + 1 if space >= 0 else first + MAX_LINE_CHARS
            cuts.append(first)
        start = end + 1
    return cuts


def _parse_blocks(source: str) -> list[Block]:
    """The top-level blocks of Markdown without overlong lines."""
    markdown = _parser()
    env: dict[str, Any] = {}
    tokens = markdown.parse(source, env)
    offsets = _line_offsets(source)
    blocks = []
    for first, last in _top_level_ranges(tokens):
        token = tokens[first]
        line = token.map[0] if token.map else 0
        start = offsets[min(line, len(offsets) - 1)]
        if token.type == "fence":
            blocks.append(Block("code", start, text=_code(token), language=_language(token)))
        elif token.type == "code_block":
            blocks.append(Block("code", start, text=_code(token)))
        else:
            _mark_last_item(tokens[first : last + 1])
            html = markdown.renderer.render(tokens[first : last + 1], markdown.options, env).strip()
            blocks.append(Block("prose", start, html=html, joins=token.type != "table_open"))
    return blocks


def merge_prose(blocks: list[Block]) -> list[Block]:
    """Join neighbouring blocks of prose, so that a finished reply can be selected across paragraphs."""
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.kind == block.kind == "prose"
            and last.joins
            and block.joins
            and len(last.html) < MAX_MERGED_CHARS
        ):
            merged[-1] = Block("prose", merged[-1].start, html=merged[-1].html + block.html)
        else:
            merged.append(block)
    return merged


def plain_blocks(source: str) -> list[str]:
    """The text that a finished reply shows, block by block of `merge_prose`; a formula is its source."""
    return [block.text if block.kind == "code" else _plain(block.html) for block in merge_prose(split_blocks(source))]


def _plain(html: str) -> str:
    """The text in our own HTML."""
    return unescape(_TAG.sub("", _BREAK.sub("\n", math_markdown.with_sources(html))))


def is_safe_link(url: str) -> bool:
    """Whether a link may be offered at all: http or https with a host, no control characters, of bounded length."""
    if len(url) > MAX_LINK_CHARS or any(ord(char) < 33 or ord(char) == 127 for char in url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme.lower() in ("http", "https") and bool(parts.hostname)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING, "breaks": True})
    markdown.enable(["table", "strikethrough"])
    math_markdown.install(markdown)
    markdown.validateLink = is_safe_link  # type: ignore[method-assign]
    markdown.add_render_rule("image", _render_image)
    markdown.add_render_rule("fence", _render_nested_code)
    markdown.add_render_rule("code_block", _render_nested_code)
    markdown.add_render_rule("table_open", _render_table_open)
    markdown.add_render_rule("link_open", _render_link_open)
    return markdown


def _render_image(
    _self: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    """An image is named, never loaded."""
    token = tokens[index]
    description = token.content or "image"
    return f"<i>[Image: {escapeHtml(description)}, {escapeHtml(str(token.attrGet('src') or ''))}]</i>"


def _render_nested_code(
    _self: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    """Code inside a list or quotation; its language is for `app.widgets.prose_code`, which colours it."""
    code, language = escape(_code(tokens[index])), escape(_language(tokens[index]))
    return f'<pre lang="{language}">{code}</pre>' if language else f"<pre>{code}</pre>"


def _render_table_open(
    _self: RendererProtocol, _tokens: Sequence[Token], _index: int, _options: OptionsDict, _env: EnvType
) -> str:
    """Qt loses the borders of aligned cells unless the table itself has one."""
    return '<table border="1" cellspacing="0" cellpadding="6">'


def _render_link_open(
    _self: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    return f'<a href="{escapeHtml(str(tokens[index].attrGet("href") or ""))}">'


def _top_level_ranges(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """First and last token of each top-level block."""
    ranges, first, depth = [], 0, 0
    for index, token in enumerate(tokens):
        if depth == 0:
            first = index
        depth += token.nesting
        if depth == 0:
            ranges.append((first, index))
    return ranges


def _mark_last_item(tokens: Sequence[Token]) -> None:
    """Qt gives a list no margin of its own: its last item carries it."""
    items = [token for token in tokens if token.type == "list_item_open" and token.level == 1]
    if items:
        items[-1].attrSet("class", "last")


def _line_offsets(source: str) -> list[int]:
    """Offset of each line's first character; markdown-it counts lines by newline alone."""
    offsets = [0]
    position = source.find("\n")
    while position >= 0:
        offsets.append(position + 1)
        position = source.find("\n", position + 1)
    return offsets


def _code(token: Token) -> str:
    return token.content.removesuffix("\n")


def _language(token: Token) -> str:
    return _first_word(token.info)


def _first_word(info: str) -> str:
    return info.split(maxsplit=1)[0][:40] if info.strip() else ""

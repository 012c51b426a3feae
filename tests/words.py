"""Finds words in source code that no marker holds, so that nothing could translate them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

MARKERS = {"say", "say_count", "tr"}
# Errors that are never shown: mistakes of ours, and reasons to try another way.
INTERNAL = {
    "ValueError", "TypeError", "AssertionError", "LookupError", "AttributeError", "HandOffError", "UnpicklingError",
}  # fmt: skip
SILENT = INTERNAL | MARKERS | {"debug", "info", "warning", "error", "exception", "compile", "execute"}
WORDS = re.compile(r"[a-zA-Z]{2,}[,:;]? [a-z]{2,}|(^| )[a-z]{2,}( |,$)| [a-z]{2,}\.$|^[a-zA-Z]{2,} $")


def unmarked(node: ast.AST) -> Iterator[ast.Constant]:
    """Texts with words in them that no marker holds; docstrings, assertions and log lines are for nobody's screen."""
    if isinstance(node, ast.Call):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in SILENT:
            for keyword in node.keywords:  # a sentence's values may be words too
                yield from unmarked(keyword.value)
            return
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if docstring or isinstance(node, ast.Assert):
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and WORDS.search(node.value) and "{%" not in node.value:  # no Jinja template
            yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from unmarked(child)


def unmarked_in(root: Path, left_out: tuple[str, ...], allowed: set[str]) -> list[str]:
    """Where words are that nothing could translate.

    Args:
        root: A package's folder.
        left_out: How the names of files begin whose words are not for the window.
        allowed: Words that stay as they are, without marks and spaces around them.
    """
    return [
        f"{path.relative_to(root.parent)}:{node.lineno}: {node.value!r}"
        for path in sorted(root.rglob("*.py"))
        if not path.relative_to(root).as_posix().startswith(left_out)
        for node in unmarked(ast.parse(path.read_text(encoding="utf-8")))
        if str(node.value).strip(" ,.;:()'") not in allowed
    ]

"""The direction of what is written: a plain text field takes its first letter's, as a document does by itself."""

from __future__ import annotations

import unicodedata

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPlainTextEdit


def is_right_to_left(text: str) -> bool:
    """Whether a text begins, after signs of no direction, with a letter that is read from right to left."""
    directions = map(unicodedata.bidirectional, text)
    return next((direction != "L" for direction in directions if direction in ("L", "R", "AL")), False)


def follow_direction(field: QPlainTextEdit) -> None:
    """Have a field's lines begin on the side where its text does, from now on."""

    def follow() -> None:
        """Turn the lines round where that changed."""
        option, text = field.document().defaultTextOption(), field.toPlainText()
        right = is_right_to_left(text)
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
        if option.alignment() != side:
            option.setAlignment(side)
            option.setTextDirection(Qt.LayoutDirection.RightToLeft if right else Qt.LayoutDirection.LayoutDirectionAuto)
            field.document().setDefaultTextOption(option)

    field.textChanged.connect(follow)
    follow()

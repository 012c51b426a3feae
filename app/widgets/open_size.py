"""How large a dialog opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize

from app.theme import FONT_BASE_PT

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

TITLE_BAR_PX = 48


def open_size(dialog: QWidget, wanted: QSize) -> QSize:
    """A comfortable size, larger with a larger font, or what the screen allows.

    Args:
        dialog: What opens.
        wanted: Its size at the usual font.
    """
    screen = dialog.screen().availableGeometry().size()
    most = QSize(screen.width(), screen.height() - TITLE_BAR_PX)
    scale = dialog.font().pointSizeF() / FONT_BASE_PT
    return (wanted * max(1.0, scale)).expandedTo(dialog.minimumSizeHint()).boundedTo(most)

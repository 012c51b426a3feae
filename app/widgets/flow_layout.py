"""A layout that puts widgets side by side and goes on below where there is no room left."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import QLayout, QLayoutItem, QWidget


class FlowLayout(QLayout):
    """Rows of widgets, each as wide as it likes, or as there is room; one that is squeezed may grow taller.

    Args:
        spacing: Between widgets, in both directions.
        parent: The owner.
        centred: Whether each row stands in the middle.
    """

    def __init__(self, spacing: int, parent: QWidget | None = None, *, centred: bool = False) -> None:
        super().__init__(parent)
        self._centred = centred
        self._items: list[QLayoutItem] = []
        self.setSpacing(spacing)
        self.setContentsMargins(0, 0, 0, 0)

    def addItem(self, item: QLayoutItem) -> None:
        """Append."""
        self._items.append(item)

    def count(self) -> int:
        """How many widgets."""
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        """One of them."""
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        """Remove one."""
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        """None."""
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        """The narrower, the taller."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Height of the rows."""
        return self._arrange(QRect(0, 0, width, 0), move=False)

    def setGeometry(self, rect: QRect) -> None:
        """Place the widgets."""
        super().setGeometry(rect)
        self._arrange(rect, move=True)

    def sizeHint(self) -> QSize:
        """One row."""
        return self.minimumSize()

    def minimumSize(self) -> QSize:
        """The largest widget."""
        size = QSize()
        for item in self._items:
            size = size.expandedTo(item.minimumSize())
        return size

    def _arrange(self, rect: QRect, *, move: bool) -> int:
        y = rect.y()
        for row in self._rows(rect.width()):
            sizes = [_size_within(item, rect.width()) for item in row]
            width = sum(size.width() for size in sizes) + self.spacing() * (len(row) - 1)
            x = rect.x() + (max(0, rect.width() - width) // 2 if self._centred else 0)
            height = max(size.height() for size in sizes)
            for item, size in zip(row, sizes, strict=True):
                if move:
                    item.setGeometry(QRect(QPoint(x, y + (height - size.height()) // 2), size))
                x += size.width() + self.spacing()
            y += height + self.spacing()
        return max(0, y - rect.y() - self.spacing())

    def _rows(self, width: int) -> list[list[QLayoutItem]]:
        """As many widgets side by side as there is room for."""
        rows: list[list[QLayoutItem]] = []
        taken = 0
        for item in (item for item in self._items if not item.isEmpty()):
            wanted = item.sizeHint().width()
            if rows and taken + wanted <= width:
                rows[-1].append(item)
            else:
                rows.append([item])
                taken = 0
            taken += wanted + self.spacing()
        return rows


def _size_within(item: QLayoutItem, width: int) -> QSize:
    """What an item takes where there is so much room."""
    size = item.sizeHint()
    if size.width() <= width:
        return size
    width = max(width, item.minimumSize().width())
    return QSize(width, item.heightForWidth(width) if item.hasHeightForWidth() else size.height())

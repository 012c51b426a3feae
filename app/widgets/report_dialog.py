"""Shows a text exactly as it is copied: diagnostics, and the report of a crash. Sends nothing."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_L, SPACE_M, mono_font

SIZE = (760, 560)


class ReportDialog(QDialog):
    """A report.

    Args:
        title: Of the window.
        words: What this is, in a sentence or two.
        text: The report; "" while it is being gathered.
        parent: The owner.
    """

    def __init__(self, title: str, words: str, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.resize(*SIZE)
        sentence = QLabel(words)
        sentence.setTextFormat(Qt.TextFormat.PlainText)
        sentence.setWordWrap(True)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setAccessibleName(title)
        self.text.setFont(mono_font())
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.copy_button = buttons.addButton(tr("&Copy"), QDialogButtonBox.ButtonRole.ActionRole)
        self.copy_button.setAccessibleName(tr("Copy"))
        self.copy_button.clicked.connect(self._copy)
        self.copy_button.setDefault(True)
        buttons.button(QDialogButtonBox.StandardButton.Close).setAutoDefault(False)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_M)
        layout.addWidget(sentence)
        layout.addWidget(self.text, 1)
        layout.addWidget(buttons)
        self.show_text(text)
        self.copy_button.setFocus()

    def show_text(self, text: str) -> None:
        """Show the report; only a whole one can be copied."""
        self.text.setPlainText(text or tr("Looking at this computer…"))
        self.copy_button.setEnabled(bool(text))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text.toPlainText())
        self.copy_button.setText(tr("Copied"))

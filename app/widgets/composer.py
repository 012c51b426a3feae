"""Where the user writes. Enter sends, Shift+Enter breaks the line, Esc stops; the draft is never lost."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.conversation import Attachment, Draft
from app.icons import icon
from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XL, SPACE_XS, current_theme
from app.widgets.attachment_chips import AttachmentChips
from app.widgets.context_meter import ContextMeter
from app.widgets.text_direction import follow_direction

if TYPE_CHECKING:
    from PySide6.QtCore import QMimeData
    from PySide6.QtGui import QFocusEvent, QKeyEvent, QResizeEvent

    from app.settings import SendKey

MAX_LINES = 8
BUTTON_PX = 36
COLUMN_WIDTH = 784
MAX_PASTED_CHARS = 20_000
PASTED_NAME = "pasted.txt"


class ComposerMode(Enum):
    """What the button does."""

    SEND = "send"
    STOP = "stop"
    QUEUED = "queued"


class Composer(QWidget):
    """A growing text field with one button.

    Signals:
        send_requested(str): The user wants to send the draft, which stays until `clear_draft`.
        stop_requested(): Stop the reply.
        withdraw_requested(): Take a queued draft back.
        attach_requested(): The user wants to choose files.
        files_given(list[Path]): Files were pasted.
        draft_changed(): Text or files of the draft changed.
        paged(int): Scroll the chat by a page, -1 is up.
    """

    send_requested = Signal(str)
    stop_requested = Signal()
    withdraw_requested = Signal()
    attach_requested = Signal()
    files_given = Signal(list)
    draft_changed = Signal()
    paged = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._mode = ComposerMode.SEND
        self._files: tuple[Attachment, ...] = ()
        self._card = QFrame()
        self._card.setObjectName("composer")
        self._edit = _DraftEdit(self._card)
        self._edit.submitted.connect(self._submit)
        self._edit.escaped.connect(self.escape)
        self._edit.paged.connect(self.paged)
        self._edit.focus_changed.connect(self._show_focus)
        self._edit.textChanged.connect(self._changed)
        self._edit.files_pasted.connect(self.files_given)
        self._edit.much_pasted.connect(self._attach_pasted)
        self.chips = AttachmentChips(self._card, removable=True)
        self.chips.removed.connect(self.remove_attachment)
        self.meter = ContextMeter()
        self._attach = QPushButton()
        self._attach.setObjectName("quiet")
        self._attach.setFixedSize(BUTTON_PX, BUTTON_PX)
        self._attach.setToolTip(tr("Attach text, code or PDF files"))
        self._attach.setAccessibleName(tr("Attach files"))
        self._attach.clicked.connect(self.attach_requested)
        self._button = QPushButton()
        self._button.setObjectName("send")
        self._button.setFixedSize(BUTTON_PX, BUTTON_PX)
        self._button.setIconSize(QSize(20, 20))
        self._button.clicked.connect(self._button_clicked)
        self._hint = QLabel()
        self._hint.setObjectName("dim")
        self._hint.setTextFormat(Qt.TextFormat.PlainText)
        self._hint.setWordWrap(True)
        self._arrange()
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # the frame around the text belongs to it
        self.setFocusProxy(self._edit)  # last: a policy is handed on to the proxy, which Tab would then pass by
        self._update_button()

    @property
    def draft(self) -> str:
        """What is written now."""
        return self._edit.toPlainText()

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files that go along."""
        return self._files

    def add_attachment(self, attachment: Attachment) -> None:
        """One more file goes along."""
        self.set_attachments((*self._files, attachment))

    def set_attachments(self, attachments: tuple[Attachment, ...]) -> None:
        """These files go along."""
        self._files = attachments
        self.chips.show_attachments(attachments)
        self._changed()

    def remove_attachment(self, index: int) -> None:
        """Take a file away again."""
        if self._mode is not ComposerMode.QUEUED:
            self.set_attachments((*self._files[:index], *self._files[index + 1 :]))
            self._edit.setFocus()

    @property
    def mode(self) -> ComposerMode:
        """What the button does now."""
        return self._mode

    @property
    def hint(self) -> str:
        """The line below the field."""
        return self._hint.text()

    def set_draft(self, text: str) -> None:
        """Put a text into the field, the cursor at its end."""
        self._edit.setPlainText(text)
        self._edit.moveCursor(self._edit.textCursor().MoveOperation.End)

    def show_draft(self, draft: Draft) -> None:
        """Put text and files of a draft in place of what is there."""
        self._files = draft.attachments
        self.chips.show_attachments(draft.attachments)
        self.set_draft(draft.text)
        self._changed()

    def clear_draft(self) -> None:
        """The draft has been sent."""
        self.show_draft(Draft())

    def set_mode(self, mode: ComposerMode, hint: str = "") -> None:
        """Say what the button does, and why, in the line below; without a reason, which keys send."""
        self._mode = mode
        self._show_hint(hint)
        self._edit.setReadOnly(mode is ComposerMode.QUEUED)
        self._update_button()

    @property
    def send_key(self) -> SendKey:
        """What sends."""
        return "ctrl_enter" if self._edit.ctrl_sends else "enter"

    def set_send_key(self, key: SendKey) -> None:
        """What sends; with Ctrl+Enter, Enter alone starts a new line."""
        self._edit.ctrl_sends = key == "ctrl_enter"
        if self._mode is ComposerMode.SEND:
            self._show_hint("")
        self._update_button()

    def escape(self) -> None:
        """Esc: take a queued draft back, or stop the reply."""
        if self._mode is ComposerMode.QUEUED:
            self.withdraw_requested.emit()
        elif self._mode is ComposerMode.STOP:
            self.stop_requested.emit()

    def restyle(self) -> None:
        """Take the colours and fonts in force."""
        self._update_button()
        self.chips.restyle()
        self._edit.fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the column centred."""
        super().resizeEvent(event)
        side = max(SPACE_M, (self.width() - COLUMN_WIDTH) // 2)
        self._column.setContentsMargins(side, 0, side, SPACE_S)

    def _arrange(self) -> None:
        card = QVBoxLayout(self._card)
        card.setContentsMargins(SPACE_XS + 2, SPACE_XS + 2, SPACE_XS + 2, SPACE_XS + 2)
        card.setSpacing(SPACE_XS)
        row = QHBoxLayout()
        row.setSpacing(SPACE_XS)
        card.addWidget(self.chips)
        card.addLayout(row)
        row.addWidget(self._attach, 0, Qt.AlignmentFlag.AlignBottom)
        row.addWidget(self._edit, 1, Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._button, 0, Qt.AlignmentFlag.AlignBottom)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(SPACE_XL, 0, SPACE_XL, SPACE_S)
        self._column.setSpacing(SPACE_XS + 2)
        self._column.addWidget(self._card)
        below = QHBoxLayout()
        below.setContentsMargins(SPACE_M, 0, 0, 0)
        below.addWidget(self._hint, 1)
        below.addWidget(self.meter)
        self._column.addLayout(below)

    def _show_hint(self, hint: str) -> None:
        if self._edit.ctrl_sends:
            keys = tr("Ctrl+Enter sends, Enter starts a new line")
        else:
            keys = tr("Enter sends, Shift+Enter starts a new line")
        self._hint.setText(hint or keys)

    def _submit(self) -> None:
        if self._mode is ComposerMode.QUEUED or not (self.draft.strip() or self._files):
            return
        self.send_requested.emit(self.draft.strip())

    def _button_clicked(self) -> None:
        if self._mode is ComposerMode.SEND:
            self._submit()
        else:
            self.escape()
        self._edit.setFocus()

    def _changed(self) -> None:
        self._update_button()
        self.draft_changed.emit()

    def _attach_pasted(self, text: str) -> None:
        """A text too long for the field becomes a file."""
        from app.attachments import MAX_TEXT_CHARS

        self.add_attachment(Attachment(PASTED_NAME, text[:MAX_TEXT_CHARS]))

    def _update_button(self) -> None:
        names = {
            ComposerMode.SEND: ("send", tr("Send (Ctrl+Enter)") if self._edit.ctrl_sends else tr("Send (Enter)")),
            ComposerMode.STOP: ("stop", tr("Stop the reply (Esc)")),
            ComposerMode.QUEUED: ("queued", tr("Waiting for the model; take the message back (Esc)")),
        }
        drawing, text = names[self._mode]
        enabled = self._mode is not ComposerMode.SEND or bool(self.draft.strip() or self._files)
        theme = current_theme()
        self._button.setEnabled(enabled)
        self._attach.setIcon(icon("attach", theme.text_dim))
        self._attach.setEnabled(self._mode is not ComposerMode.QUEUED)
        self._button.setIcon(icon(drawing, theme.accent_text if enabled else theme.text_dim))
        self._button.setToolTip(text)
        self._button.setAccessibleName(text)

    def _show_focus(self, focused: bool) -> None:
        self._card.setProperty("focused", focused)
        self._card.style().unpolish(self._card)
        self._card.style().polish(self._card)


class _DraftEdit(QPlainTextEdit):
    """Plain text, as tall as its lines up to a limit."""

    submitted = Signal()
    escaped = Signal()
    paged = Signal(int)
    focus_changed = Signal(bool)
    files_pasted = Signal(list)
    much_pasted = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.ctrl_sends = False
        self.setObjectName("draft")
        self.setAccessibleName(tr("Message"))
        self.setPlaceholderText(tr("Ask something"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(2)
        self.document().documentLayout().documentSizeChanged.connect(self.fit)
        follow_direction(self)
        self.fit()

    def fit(self) -> None:
        """Take the height of the text, up to the limit."""
        lines = max(1, round(self.document().size().height()))
        height = min(lines, MAX_LINES) * self.fontMetrics().lineSpacing() + 2 * SPACE_XS + 2
        policy = Qt.ScrollBarPolicy.ScrollBarAsNeeded if lines > MAX_LINES else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(policy)
        if height != self.height():
            self.setFixedHeight(height)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter, Escape and the page keys are ours."""
        plain = not event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        sends = plain and (not self.ctrl_sends or bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier))
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and sends:
            self.submitted.emit()
        elif event.matches(QKeySequence.StandardKey.Paste) and self._paste_files():
            event.accept()
        elif event.key() == Qt.Key.Key_Escape:
            self.escaped.emit()
        elif event.key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown) and plain:
            self.paged.emit(-1 if event.key() == Qt.Key.Key_PageUp else 1)
        else:
            super().keyPressEvent(event)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        """Only text can be dropped here; files go to the window."""
        return source.hasText() and not source.hasUrls()

    def insertFromMimeData(self, source: QMimeData) -> None:
        """Paste as plain text; a very long one as a file."""
        text = source.text()
        if len(text) > MAX_PASTED_CHARS:
            self.much_pasted.emit(text)
        else:
            self.insertPlainText(text)

    def _paste_files(self) -> bool:
        """Attach the files on the clipboard; returns whether there were any."""
        paths = local_files(QGuiApplication.clipboard().mimeData())
        if paths:
            self.files_pasted.emit(paths)
        return bool(paths)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.fit()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Tell the card."""
        super().focusInEvent(event)
        self.focus_changed.emit(True)  # noqa: FBT003 - a signal takes no names

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Tell the card."""
        super().focusOutEvent(event)
        self.focus_changed.emit(False)  # noqa: FBT003


def local_files(data: QMimeData) -> list[Path]:
    """The files on this machine that are being pasted or dropped; none where there is something else among them."""
    urls = data.urls() if data.hasUrls() else []
    return [Path(url.toLocalFile()) for url in urls] if all(url.isLocalFile() for url in urls) else []

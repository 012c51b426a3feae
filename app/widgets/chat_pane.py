"""The middle of the window: notices, loading, the transcript and the composer, wired to the chat session."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QMessageBox, QVBoxLayout, QWidget

from app.attachment_reader import AttachmentReader
from app.attachments import MAX_ATTACHMENTS
from app.context_use import ContextCounter
from app.conversation import Draft
from app.engine_client import EngineState
from app.engine_words import in_window
from app.error_actions import OFFERS, action_for, offer_for
from app.language import error_text, tr
from app.theme import SPACE_M, SPACE_S
from app.units import number_text
from app.widgets.banner import Action, BannerArea
from app.widgets.composer import Composer, ComposerMode
from app.widgets.find_bar import FindBar
from app.widgets.loading_bar import LoadingBar
from app.widgets.toast import Toast
from app.widgets.transcript import Transcript

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent

    from app.chat_session import ChatSession
    from app.conversation import Attachment, Conversation, Message, Removed
    from app.engine_client import EngineClient
    from engine.messages import ErrorReport, Loading

log = logging.getLogger(__name__)

COLUMN_WIDTH = 784


class ChatPane(QWidget):
    """One chat.

    Args:
        client: The engine.
        session: The chat.
        parent: The owner.

    Signals:
        open_model_requested(): The user wants another model.
        settings_requested(): The user wants to change a setting.
        budget_requested(): The user wants to change how much memory the model may take.
        diagnostics_requested(): The user wants to see what a report of a problem needs.
        disk_requested(): The user wants the model that did not fit, with its experts on disk.
    """

    open_model_requested = Signal()
    settings_requested = Signal()
    budget_requested = Signal()
    diagnostics_requested = Signal()
    disk_requested = Signal()

    def __init__(self, client: EngineClient, session: ChatSession, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._session = session
        self.banners = BannerArea()
        self.loading_bar = LoadingBar()
        self.transcript = Transcript()
        self.composer = Composer()
        self.banners.focus_lost.connect(self.composer.setFocus)
        self.toast = Toast(self, self.composer)
        self.find_bar = FindBar(self.transcript)
        self._reader = AttachmentReader(self)
        self._counter = ContextCounter(client, session, self)
        self._notices = QWidget()
        self.transcript.set_versions_by(self._version_of)
        self._trimmed = False
        self._arrange()
        self._connect_widgets()
        self._connect_session()

    def show_loading_of(self, name: str) -> None:
        """A load of this model begins."""
        self.banners.dismiss("engine")
        self.loading_bar.show_starting(name)

    def show_unloaded(self) -> None:
        """No load begins."""
        self._update_composer()

    def open_link(self, url: str) -> None:
        """Show the whole address and ask before the browser gets it."""
        from app.markdown import is_safe_link

        if not is_safe_link(url):
            return
        box = QMessageBox(self)
        box.setWindowTitle(tr("Open link"))
        box.setTextFormat(box.textFormat().PlainText)
        box.setText(tr("Open this address in your web browser?"))
        box.setInformativeText(url)
        box.setStandardButtons(QMessageBox.StandardButton.Open | QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(QMessageBox.StandardButton.Cancel)
        box.accepted.connect(lambda: QDesktopServices.openUrl(QUrl(url)))
        box.finished.connect(box.deleteLater)
        box.open()

    def restyle(self) -> None:
        """Take the theme in force."""
        for part in (self.banners, self.find_bar, self.transcript, self.composer):
            part.restyle()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep notices in the transcript's column."""
        super().resizeEvent(event)
        side = max(SPACE_M, (self.width() - COLUMN_WIDTH) // 2)
        self._notices_layout.setContentsMargins(side, SPACE_S, side, 0)

    # ---- wiring -------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        self._notices_layout = QVBoxLayout(self._notices)
        self._notices_layout.setSpacing(SPACE_S)
        self._notices_layout.addWidget(self.banners)
        self._notices_layout.addWidget(self.loading_bar)
        self._notices_layout.addWidget(self.find_bar)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._notices)
        layout.addWidget(self.transcript, 1)
        layout.addWidget(self.composer)

    def _connect_widgets(self) -> None:
        self.composer.send_requested.connect(self._send)
        self.composer.stop_requested.connect(self._session.stop)
        self.composer.withdraw_requested.connect(self._session.withdraw)
        self.composer.attach_requested.connect(self.choose_files)
        self.composer.files_given.connect(self.attach)
        self.composer.draft_changed.connect(self._draft_changed)
        self.find_bar.closed.connect(self.composer.setFocus)
        self._reader.loaded.connect(self._attached)
        self._reader.refused.connect(self._refused)
        self._counter.changed.connect(self.composer.meter.show_use)
        self._counter.draft_files_counted.connect(self.composer.chips.show_tokens)
        self.composer.paged.connect(self.transcript.scroll_by_page)
        self.transcript.empty_state.model_requested.connect(self.open_model_requested)
        self.transcript.question_chosen.connect(self._ask)
        self.transcript.link_clicked.connect(self.open_link)
        self.transcript.retry_requested.connect(self._session.regenerate)
        self.transcript.acted.connect(self._act)
        self.loading_bar.cancel_requested.connect(self._cancel_loading)

    def _connect_session(self) -> None:
        session, client = self._session, self._client
        session.message_added.connect(self._message_added)
        session.reply_text.connect(self._reply_text)
        session.reply_progress.connect(self._prompt_progress)
        session.reply_changed.connect(self._reply_changed)
        session.reply_left_out.connect(self._reply_left_out)
        session.chat_shown.connect(self._show_chat)
        session.path_changed.connect(self.transcript.show_from)
        session.removed.connect(self._removed)
        session.refused.connect(self.toast.show_text)
        session.queued_changed.connect(self._update_composer)
        session.busy_changed.connect(self._update_composer)
        client.state_changed.connect(self._state_changed)
        client.loading.connect(self._loading)
        client.failed.connect(self._failed)

    # ---- the user -----------------------------------------------------------------------------------------------

    def choose_files(self) -> None:
        """Ask for files to attach."""
        names, _ = QFileDialog.getOpenFileNames(self, tr("Attach text, code or PDF files"))
        self.attach([Path(name) for name in names])

    def attach(self, paths: list[Path]) -> None:
        """Attach files to the draft, as soon as they are read."""
        room = MAX_ATTACHMENTS - len(self.composer.attachments)
        if len(paths) > room:
            sentence = tr("At most {count} files can be attached; remove some first.").format(count=MAX_ATTACHMENTS)
            self._refused(sentence)
        else:
            self.banners.dismiss("attachment")
        if paths[: max(0, room)]:
            self._reader.read(paths[: max(0, room)])
        self.composer.setFocus()

    def _refused(self, sentence: str) -> None:
        log.warning("An attachment was refused")  # no name: it may tell as much as a message
        other = action_for(OFFERS["attachment"], {"other_file": self.choose_files})
        self.banners.show_banner("attachment", sentence, "notice", (other,))

    def _attached(self, attachment: Attachment) -> None:
        self.composer.add_attachment(attachment)

    def _draft_changed(self) -> None:
        self._counter.show_draft(self.composer.draft, self.composer.attachments)

    def _reply_left_out(self, message: Message) -> None:
        for view in reversed(self.transcript.views):
            if view.message is message:
                view.refresh_status()

    def _too_long(self, sentence: str) -> None:
        """The prompt does not fit: offer what helps."""
        edit = Action(tr("Edit"), self._take_back)
        turns = sum(message.role == "user" for message in self._session.conversation.messages)
        if turns > 1 and not self._trimmed:
            trim = Action(tr("Leave out the oldest messages and send"), self._trim)
            self.banners.show_banner("too-long", sentence, "error", (trim, edit))
        else:
            self.banners.show_banner("too-long", sentence, "error", (edit,))
        self._trimmed = False

    def _trim(self) -> None:
        self._trimmed = True
        self._session.regenerate("drop_oldest")

    def _take_back(self) -> None:
        """Put the last question back into the composer, before what is written there."""
        question = self._session.take_back()
        if question is not None:
            draft = self.composer.draft
            self.composer.set_draft("\n\n".join(filter(None, [question.text, draft])))
            self.composer.set_attachments((*question.attachments, *self.composer.attachments))
        self.composer.setFocus()

    def _send(self, text: str) -> None:
        self._session.submit(text, self.composer.attachments)
        self._update_composer()

    def _ask(self, question: str) -> None:
        self.composer.set_draft(question)
        self._send(question)
        self.composer.setFocus()

    def _act(self, message: Message, what: str, text: str) -> None:
        """Something is to be done with a message."""
        session = self._session
        if what == "continue":
            session.continue_reply()
        elif what == "delete":
            session.delete_message(message)
        elif what == "edit":
            session.edit(message, text)
            self.composer.setFocus()
        elif what == "leave":
            self.composer.setFocus()
        elif what == "compare":
            self._compare_versions(message)
        elif what == "remedy" and message.error is not None:
            self._way_on(message.error).run()
        else:
            session.choose_version(message, -1 if what == "previous" else 1)

    def _compare_versions(self, message: Message) -> None:
        from app.widgets.versions_dialog import VersionsDialog

        dialog = VersionsDialog(self._session.conversation.versions(message), message, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.chosen.connect(self._session.show_version)
        dialog.link_clicked.connect(self.open_link)
        dialog.open()

    def _cancel_loading(self) -> None:
        self.loading_bar.show_cancelling()
        self._client.cancel()

    # ---- the session --------------------------------------------------------------------------------------------

    def _show_chat(self, chat: Conversation) -> None:
        self.transcript.show_messages(chat.messages)
        self.composer.show_draft(chat.draft)
        self._update_composer()

    def _version_of(self, message: Message) -> tuple[int, int]:
        if message not in self._session.conversation:
            return 1, 1
        versions = self._session.conversation.versions(message)
        return versions.index(message) + 1, len(versions)

    def _removed(self, removed: Removed) -> None:
        chat = self._session.conversation
        self.toast.show_text(
            tr("%n messages deleted", len(removed.messages)),
            tr("Undo"),
            lambda: self._session.restore(chat, removed),
        )

    def _message_added(self, message: Message) -> None:
        written = Draft(self.composer.draft.strip(), self.composer.attachments)
        if message.role == "user" and written == Draft(message.text, message.attachments):
            self.composer.clear_draft()
        self.banners.dismiss("too-long")
        self.transcript.add_message(message)

    def _reply_text(self, text: str) -> None:
        self.transcript.views[-1].append(text)

    def _prompt_progress(self, done_tokens: int, total_tokens: int) -> None:
        text = tr("Reading the prompt: {done} of {total} tokens")
        text = text.format(done=number_text(done_tokens), total=number_text(total_tokens))
        self.transcript.views[-1].show_progress(text if done_tokens < total_tokens else "")

    def _reply_changed(self, message: Message) -> None:
        for view in reversed(self.transcript.views):
            if view.message is message:
                view.end()
                break
        self._trimmed = self._trimmed and message.state == "failed"
        self.transcript.contents_changed.emit()

    # ---- the engine ---------------------------------------------------------------------------------------------

    def _state_changed(self, state: EngineState) -> None:
        if state in (EngineState.READY, EngineState.GENERATING, EngineState.FAILED, EngineState.STOPPED):
            self.loading_bar.hide()
        self._update_composer()

    def _loading(self, loading: Loading) -> None:
        self.loading_bar.show_loading(loading)

    def _update_composer(self) -> None:
        self.transcript.set_changeable(not self._session.writing_here)
        if self._session.queued:
            hint = tr("The model is still loading. Your message is sent as soon as it is ready; Esc takes it back")
            if self._session.busy:
                hint = tr("A reply is being written in another chat. Yours is sent after it; Esc takes it back")
            self.composer.set_mode(ComposerMode.QUEUED, hint)
        elif self._session.writing_here:
            hint = tr("Esc stops the reply; you can already write your next message")
            self.composer.set_mode(ComposerMode.STOP, hint)
        elif self._client.state in (EngineState.STARTING, EngineState.LOADING):
            self.composer.set_mode(ComposerMode.SEND, tr("The model is loading; you can already write"))
        elif self._client.state in (EngineState.FAILED, EngineState.STOPPED):
            self.composer.set_mode(ComposerMode.SEND, tr("No model is loaded: open one with Ctrl+O"))
        else:
            self.composer.set_mode(ComposerMode.SEND)

    def _failed(self, error: ErrorReport, what: str) -> None:
        """One sentence and one button; what is wrong with a reply stands in the reply itself."""
        sentence = in_window(error_text(error))
        if what == "reply" and error.code == "prompt-too-long":
            self._too_long(sentence)
        elif what == "settings" and error.code != "cancelled":
            settings = action_for("settings", {"settings": self.settings_requested.emit})
            self.banners.show_banner("settings", sentence, "notice", (settings,))
        elif what == "load" and error.code == "cancelled":
            again = action_for(offer_for(error), {"load_again": self._client.restart})
            self.banners.show_banner("engine", tr("Loading was cancelled."), "notice", (again,))
        elif what in {"load", "engine"}:
            self.banners.show_banner("engine", sentence, "error", (self._way_on(error),))

    def _way_on(self, error: ErrorReport) -> Action:
        """The button that helps with an error."""
        return action_for(
            offer_for(error),
            {
                "other_model": self.open_model_requested.emit,
                "budget": self.budget_requested.emit,
                "settings": self.settings_requested.emit,
                "disk": self.disk_requested.emit,
                "restart": self._client.restart,
                "retry": self._client.restart,
                "edit": self._take_back,
                "diagnostics": self.diagnostics_requested.emit,
            },
        )

"""Graphics card: whether the GPU is used, what it takes to use it, and where that comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFileDialog, QLabel, QLineEdit, QProgressBar, QPushButton

from app.gpu_state import ACTIVE, GpuState
from app.gpu_words import facts, headline, origin, progress_words, trouble
from app.language import error_text, tr
from app.theme import SPACE_XS
from app.wheel_index import check_index
from app.widgets.models.progress_row import PROGRESS_STEPS
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.page import SettingsPage, in_a_row, show_line
from engine.errors import ConfigurationError

if TYPE_CHECKING:
    from app.gpu_state import Phase
    from app.settings import Settings
    from engine.messages import TorchBuild

_INSTALLABLE: frozenset[Phase] = frozenset(("available", "paused", "failed"))
_PAUSABLE: frozenset[Phase] = frozenset(("downloading", "stalled", "verifying", "unpacking"))


class GpuPage(SettingsPage):
    """The GPU component.

    Signals:
        install_requested(), pause_requested(), cancel_requested(), repair_requested(), remove_requested(): As it says.
        folder_chosen(str): Install from the wheels in this folder.
        driver_requested(): The user wants a newer driver.
    """

    install_requested = Signal()
    pause_requested = Signal()
    cancel_requested = Signal()
    repair_requested = Signal()
    remove_requested = Signal()
    folder_chosen = Signal(str)
    driver_requested = Signal()

    def __init__(self) -> None:
        super().__init__(tr("Graphics card"))
        self._state = GpuState()
        self._headline, self._error = _wrapped(), _wrapped()
        self._facts, self._progress, self._origin = DimLabel(), DimLabel(), DimLabel()
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setRange(0, PROGRESS_STEPS)
        self._bar.setAccessibleName(tr("Progress of {name}").format(name=tr("GPU support")))
        self.main, self.cancel = _button(""), _button(tr("Cancel"))
        self.main.setObjectName("primary")
        self.repair, self.remove = _button(tr("Re&pair")), _button(tr("&Remove"))
        self.folder = _button(tr("Install from a &folder…"))
        self.mirror = QLineEdit()
        self.mirror.setPlaceholderText("https://mirror.example/simple")
        self.mirror.setAccessibleName(tr("Package index to take GPU support from"))
        self._arrange()
        self._connect()
        self.show_state(self._state, None)

    def _arrange(self) -> None:
        buttons = in_a_row(self.main, self.cancel, self.repair, self.remove, self.folder)
        buttons.setContentsMargins(0, SPACE_XS, 0, SPACE_XS)
        parts = (self._headline, self._bar, self._progress, self._error, self._facts, buttons, self._origin)
        self._add_row(tr("GPU support"), self.main, *parts)
        note = DimLabel(
            tr(
                "Empty for the usual places. A mirror must have the very same files. Without a network, copy the files "
                "into a folder elsewhere and install from that."
            )
        )
        self._mirror_problem = DimLabel()
        self._add_row(tr("&Mirror"), self.mirror, self.mirror, self._mirror_problem, note)
        self._finish()

    def _connect(self) -> None:
        self.main.clicked.connect(self._act)
        self.cancel.clicked.connect(self.cancel_requested)
        self.repair.clicked.connect(self.repair_requested)
        self.remove.clicked.connect(self.remove_requested)
        self.folder.clicked.connect(self._choose_folder)
        self.mirror.textEdited.connect(self._mirror_edited)

    # ---- the component ----

    def show_state(self, state: GpuState, in_use: TorchBuild | None) -> None:
        """Show how the component stands.

        Args:
            state: As it is now.
            in_use: What the engine said of its torch.
        """
        self._state, phase = state, state.phase
        self._headline.setText(headline(state))
        show_line(self._facts, facts(state, in_use))
        show_line(self._progress, progress_words(state))
        total = state.progress.total_bytes
        self._bar.setVisible(phase in ("downloading", "stalled", "paused", "verifying", "unpacking") and total > 0)
        self._bar.setValue(int(PROGRESS_STEPS * state.progress.done_bytes / max(1, total)))
        self._error.setText(trouble(state))
        self._error.setVisible(bool(self._error.text()))
        installable = phase in _INSTALLABLE
        show_line(self._origin, origin(state) if installable or phase in ACTIVE else "")
        self.main.setText(self._main_words())
        self.main.setAccessibleName(f"{tr('GPU support')}: {self.main.text()}".rstrip(": ").replace("&", ""))
        self.main.setVisible(bool(self.main.text()))
        self.cancel.setVisible(phase in _PAUSABLE or phase in ("paused", "failed"))
        self.repair.setVisible(phase == "installed")
        self.remove.setVisible(phase in ("installed", "damaged"))
        self.folder.setVisible(installable)

    def _main_words(self) -> str:
        phase = self._state.phase
        if phase in _PAUSABLE:
            return tr("Pause")
        return {
            "available": tr("&Install"),
            "paused": tr("Resume"),
            "failed": tr("Try again"),
            "old-driver": tr("Get a newer driver…"),
            "damaged": tr("Repair"),
        }.get(phase, "")

    def _act(self) -> None:
        if self._state.phase in _PAUSABLE:
            self.pause_requested.emit()
        elif self._state.phase == "old-driver":
            self.driver_requested.emit()
        elif self._state.phase == "damaged":
            self.repair_requested.emit()
        else:
            self.install_requested.emit()

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, tr("Folder with the files of GPU support"))
        if folder:
            self.folder_chosen.emit(folder)

    # ---- the mirror ----

    def show_settings(self, settings: Settings) -> None:
        """Fill the field."""
        self.mirror.setText(settings.gpu_mirror)
        self._show_problem()

    def merge(self, settings: Settings) -> Settings:
        """The settings with this field."""
        return replace(settings, gpu_mirror=self.mirror.text().strip())

    @property
    def problem(self) -> str:
        """Why what is written there is no address."""
        text = self.mirror.text().strip()
        if not text:
            return ""
        try:
            check_index(text)
        except ConfigurationError as error:
            return error_text(error)
        return ""

    def _mirror_edited(self) -> None:
        self._show_problem()
        self.edited.emit()

    def _show_problem(self) -> None:
        show_line(self._mirror_problem, self.problem)


def _wrapped() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _button(text: str) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    return button

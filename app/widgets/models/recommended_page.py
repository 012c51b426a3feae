"""Recommended: a few models that suit this program, each with size, licence and what it would do here.

The engine's own plan for a model's published shape says that, offline; its size must do where the shape is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.language import error_text, tr, translated
from app.rough_fit import RoughFit, fit_words, free_bytes, rough_fit
from app.theme import SPACE_L, SPACE_M, SPACE_S, SPACE_XS
from app.units import bytes_text
from app.verdict import sentence
from app.widgets.models.found_list import DOT
from app.widgets.panel_parts import DimLabel
from engine.checkpoint.families import FAMILIES
from engine.errors import NotOnHubError
from engine.hub.curated import CURATED, CuratedModel, meant_choice

if TYPE_CHECKING:
    from pathlib import Path

    from app.downloads import Downloads
    from app.library import Library
    from engine.hardware import HardwareProfile
    from engine.hub.repository import Choice
    from engine.messages import ErrorReport


class ModelCard(QFrame):
    """One recommended model.

    Args:
        model: Which.
        fit: Whether it has room.
        verdict: What it would do here, for the user.
        parent: The page.

    Signals:
        download_requested(): Look it up and download it.
    """

    download_requested = Signal()

    def __init__(self, model: CuratedModel, fit: RoughFit, verdict: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("loading")
        self.model = model
        name = QLabel(model.name)
        name.setObjectName("figure")
        self.words = QLabel(translated(model.sentence))
        self.words.setWordWrap(True)
        family = FAMILIES[model.family].title if model.family in FAMILIES else model.family
        about = tr("about {size}").format(size=bytes_text(model.about_bytes))
        licence = tr("licence {name}").format(name=model.licence)
        facts = DimLabel(DOT.join((family, about, licence)))
        self.verdict = DimLabel(verdict)
        self.verdict.setAccessibleName(tr("Whether it runs here"))
        self.button = QPushButton(tr("Download"))
        self.button.setAutoDefault(False)
        self.button.setAccessibleName(tr("Download {name}").format(name=model.name))
        self.button.setEnabled(fit.on_drive)
        left = QVBoxLayout()
        left.setSpacing(SPACE_XS)
        for widget in (name, self.words, facts, self.verdict):
            left.addWidget(widget)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_M, SPACE_L, SPACE_M)
        layout.setSpacing(SPACE_L)
        layout.addLayout(left, 1)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignVCenter)
        self.button.clicked.connect(self.download_requested)

    def show_asking(self) -> None:
        """The hub is being asked."""
        self.button.setEnabled(False)
        self.verdict.setText(tr("Asking the hub…"))

    def show_problem(self, sentence: str) -> None:
        """It could not be had."""
        self.button.setEnabled(True)
        self.verdict.setText(sentence)

    def show_fit(self, fit: RoughFit) -> None:
        """Whether it has room."""
        self.button.setEnabled(fit.on_drive)
        self.verdict.setText(fit_words(fit))

    def show_started(self) -> None:
        """It is among the downloads now."""
        self.button.setEnabled(False)
        self.verdict.setText(tr("Downloading; see below."))


class RecommendedPage(QScrollArea):
    """The second page.

    Args:
        downloads: What downloads.
        library: Knows the machine.
        parent: The dialog.
    """

    def __init__(self, downloads: Downloads, library: Library, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._downloads, self._library = downloads, library
        self._asked: dict[str, ModelCard] = {}
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, SPACE_M, SPACE_S, 0)
        layout.setSpacing(SPACE_M)
        self.place = DimLabel()
        layout.addWidget(self.place)
        machine, folder = library.machine(), downloads.models_folder
        self.place.setText(
            tr("Downloads go to {folder}, where {size} are free. Nothing is asked of the hub before you click.").format(
                folder=folder, size=bytes_text(free_bytes(folder), "down")
            )
        )
        self.cards = [self._card(model, machine, folder) for model in CURATED]
        for card in self.cards:
            layout.addWidget(card)
            card.download_requested.connect(lambda card=card: self._look_up(card))
        layout.addStretch(1)
        self.setWidget(content)
        downloads.looked_up.connect(self._answered)

    def _card(self, model: CuratedModel, machine: HardwareProfile, folder: Path) -> ModelCard:
        fit, shape = rough_fit(model.about_bytes, machine, folder), model.shape
        if shape is None or not fit.on_drive:
            return ModelCard(model, fit, fit_words(fit))
        verdict = self._library.foresee(model.repo_id, model.about_bytes, shape, machine)
        words = tr("{verdict} Estimated from its published shape.").format(verdict=sentence(verdict))
        return ModelCard(model, fit, words)

    def _look_up(self, card: ModelCard) -> None:
        self._asked[card.model.repo_id] = card
        card.show_asking()
        self._downloads.look_up(card.model.repo_id)

    def _answered(self, repo_id: str, found: tuple[Choice, ...], error: ErrorReport | None) -> None:
        card = self._asked.pop(repo_id, None)
        if card is None:
            return
        if error is not None:
            card.show_problem(error_text(error))
            return
        try:
            choice = meant_choice(card.model, found)
        except NotOnHubError as gone:
            card.show_problem(error_text(gone))
            return
        fit = rough_fit(choice.total_bytes, self._library.machine(), self._downloads.models_folder)
        if fit.on_drive:
            self._downloads.start(choice)
            card.show_started()
        else:
            card.show_fit(fit)

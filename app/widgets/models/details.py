"""What is known of one model, what loading it would make of this computer's memory, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.engine_words import in_window, weights_text
from app.language import tr, translated
from app.model_places import source_words
from app.theme import SPACE_L, SPACE_M, SPACE_S, SPACE_XS, current_theme
from app.units import bytes_text, number_text, parameters_text, unbroken
from app.widgets.flow_layout import FlowLayout
from app.widgets.memory_content import planned_contents
from app.widgets.memory_gauge import MemoryGauge
from app.widgets.models.found_list import verdict_line
from app.widgets.models.found_row import verdict_colour
from app.widgets.panel_parts import DimLabel
from engine.checkpoint.catalog import GUIDE

if TYPE_CHECKING:
    from app.model_scan import FoundModel
    from app.verdict import Verdict

DOT_PX = 10
_MARK_TOP_PX = 4  # level with the first line beside it


class ModelDetails(QWidget):
    """The pane beside the list.

    Signals:
        load_requested(): Load the model that is shown.
        reveal_requested(): Show its folder.
        smaller_requested(): Make a smaller model of it.
        delete_requested(): Delete it.
    """

    load_requested = Signal()
    reveal_requested = Signal()
    smaller_requested = Signal()
    delete_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(tr("Details of the model"))
        self._name = QLabel()
        self._name.setObjectName("modelName")
        self._name.setWordWrap(True)
        self._name.setTextFormat(Qt.TextFormat.PlainText)
        self._mark = _Mark()
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setTextFormat(Qt.TextFormat.PlainText)
        self.verdict.setAccessibleName(tr("Whether it runs here"))
        self._remedy = DimLabel()
        self.vram, self.ram = MemoryGauge(tr("VRAM")), MemoryGauge(tr("RAM"))
        self._facts = QGridLayout()
        self._values: dict[str, tuple[DimLabel, DimLabel]] = {}
        self._reasons = DimLabel()
        self.load = QPushButton(tr("&Load"))
        self.load.setObjectName("primary")
        self.reveal = QPushButton(tr("&Show in folder"))
        self.smaller = QPushButton(tr("&Make smaller…"))
        self.delete = QPushButton(tr("&Delete…"))
        self._arrange()
        self.load.clicked.connect(self.load_requested)
        self.reveal.clicked.connect(self.reveal_requested)
        self.smaller.clicked.connect(self.smaller_requested)
        self.delete.clicked.connect(self.delete_requested)
        self.show_model(None, None, loaded=False)

    def _arrange(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(SPACE_S)
        head.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self.verdict, 1)
        self._facts.setHorizontalSpacing(SPACE_M)
        self._facts.setVerticalSpacing(SPACE_XS)
        self._facts.setColumnStretch(1, 1)
        for row, name in enumerate(
            (tr("Family"), tr("Weights"), tr("Parameters"), tr("Experts"), tr("Context"), tr("Folder"))
        ):
            label = DimLabel(name)
            label.setWordWrap(False)
            value = DimLabel()
            value.setObjectName("")
            value.setAccessibleName(name)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._values[name] = label, value
            self._facts.addWidget(label, row, 0, Qt.AlignmentFlag.AlignTop)
            self._facts.addWidget(value, row, 1)
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 0, SPACE_S, 0)
        inner.setSpacing(SPACE_S)
        inner.addWidget(self._name)
        inner.addLayout(head)
        inner.addWidget(self._remedy)
        inner.addSpacing(SPACE_S)
        inner.addWidget(self.vram)
        inner.addWidget(self.ram)
        inner.addSpacing(SPACE_S)
        inner.addLayout(self._facts)
        inner.addSpacing(SPACE_S)
        inner.addWidget(self._reasons)
        inner.addStretch(1)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(content)
        buttons = FlowLayout(SPACE_S)
        for button in (self.load, self.reveal, self.smaller, self.delete):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, 0, 0, 0)
        layout.setSpacing(SPACE_M)
        layout.addWidget(scroll, 1)
        layout.addLayout(buttons)

    @property
    def comfortable_width(self) -> int:
        """What its buttons need side by side."""
        buttons = (self.load, self.reveal, self.smaller, self.delete)
        return SPACE_L + sum(button.sizeHint().width() + SPACE_S for button in buttons)

    # ---- showing ----

    def show_model(self, model: FoundModel | None, verdict: Verdict | None, *, loaded: bool) -> None:
        """Show a model, or nothing."""
        for widget in (self._mark, self.load, self.reveal, self.delete):
            widget.setVisible(model is not None)
        self.smaller.setVisible(model is not None and model.can_be_smaller)
        if model is None:
            self._name.setText("")
            for label in (self.verdict, self._remedy, self._reasons):
                label.clear()
            self._show_facts({})
            self._show_gauges(None)
            return
        self._name.setText(model.name)
        self._show_verdict(model, verdict)
        self._show_gauges(verdict)
        self._show_facts(_facts(model))
        self._show_buttons(model, verdict, loaded=loaded)

    def _show_verdict(self, model: FoundModel, verdict: Verdict | None) -> None:
        self._mark.set_verdict(verdict)
        self.verdict.setText(unbroken(verdict_line(model, verdict)))
        remedy = translated(verdict.remedy if verdict is not None else model.remedy)
        self._remedy.setText(unbroken(in_window(remedy)))
        self._remedy.setVisible(bool(self._remedy.text()))
        self._reasons.setText(unbroken(_reasons(verdict)))
        self._reasons.setVisible(bool(self._reasons.text()))

    def _show_gauges(self, verdict: Verdict | None) -> None:
        vram = ram = None
        if verdict is not None and verdict.plan is not None and verdict.hardware is not None:
            vram, ram = planned_contents(verdict.plan, verdict.hardware, verdict.vram_total_bytes)
        for gauge, content in ((self.vram, vram), (self.ram, ram)):
            gauge.set_content(content)
            gauge.setVisible(content is not None)

    def _show_facts(self, facts: dict[str, str]) -> None:
        for name, (label, value) in self._values.items():
            text = facts.get(name, "")
            value.setText(text)
            label.setVisible(bool(text))
            value.setVisible(bool(text))

    def _show_buttons(self, model: FoundModel, verdict: Verdict | None, *, loaded: bool) -> None:
        from_disk = verdict is not None and verdict.kind == "disk" and verdict.short is not None
        self.load.setText(tr("&Load from disk") if from_disk else tr("&Load"))
        self.load.setEnabled(not loaded and model.runs and (verdict is None or verdict.plan is not None))
        self.load.setToolTip(tr("This model is loaded.") if loaded else "")
        self.reveal.setEnabled(not model.offline and bool(model.size_bytes))
        why_kept = ""
        if model.path == GUIDE:
            why_kept = tr("The guide comes with Rooftop and stays.")
        elif loaded:
            why_kept = tr("This model is loaded; load another one before you delete it.")
        self.delete.setEnabled(not why_kept and not model.offline)
        self.delete.setToolTip(why_kept)


class _Mark(QWidget):
    """The verdict's dot."""

    def __init__(self) -> None:
        super().__init__()
        self._verdict: Verdict | None = None
        self.setFixedSize(DOT_PX, DOT_PX + _MARK_TOP_PX)

    def set_verdict(self, verdict: Verdict | None) -> None:
        """Take its colour."""
        self._verdict = verdict
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(verdict_colour(self._verdict, current_theme())))
        painter.drawEllipse(0, _MARK_TOP_PX, DOT_PX, DOT_PX)
        painter.end()


def _reasons(verdict: Verdict | None) -> str:
    """Why the plan is as it is, and how sure its speed is."""
    if verdict is None or verdict.plan is None:
        return ""
    sure = "" if verdict.measured else tr("The speed is an estimate; the first start measures this computer.")
    return " ".join(filter(None, (*map(translated, verdict.plan.reasons), sure)))


def _facts(model: FoundModel) -> dict[str, str]:
    where = model.path if model.path != GUIDE else source_words(model.source)
    config = model.config
    if config is None:
        size = bytes_text(model.size_bytes) if model.size_bytes else ""
        return {tr("Weights"): size, tr("Folder"): where}
    parameters = tr("{all}, {active} for each token").format(
        all=parameters_text(model.parameters), active=parameters_text(model.active_parameters)
    )
    experts = tr("{each} in each of {layers} layers, {active} for each token").format(
        each=config.experts, layers=config.layers, active=config.experts_per_token
    )
    context = tr("up to {number} tokens").format(number=number_text(config.max_position_embeddings))
    weights = tr("{format}; {size} on disk").format(format=weights_text(config), size=bytes_text(model.size_bytes))
    return {
        tr("Family"): model.family,
        tr("Weights"): weights,
        tr("Parameters"): parameters,
        tr("Experts"): experts,
        tr("Context"): context,
        tr("Folder"): where,
    }

"""The models on this computer as rows that can be searched and sorted. No widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, QSortFilterProxyModel, Qt

from app.language import tr, translated
from app.model_places import source_words
from app.units import bytes_text, parameters_text
from app.verdict import Verdict, sentence
from engine.checkpoint.catalog import GUIDE

if TYPE_CHECKING:
    from app.library import Library
    from app.model_scan import FoundModel

Index = QModelIndex | QPersistentModelIndex
SortBy = Literal["name", "size", "speed", "family"]
MODEL_ROLE = int(Qt.ItemDataRole.UserRole)
VERDICT_ROLE, LOADED_ROLE = MODEL_ROLE + 1, MODEL_ROLE + 2
DOT = " \N{MIDDLE DOT} "
_NO_INDEX = QModelIndex()


def facts_line(model: FoundModel) -> str:
    """Family, format, parameters and folder in one line."""
    parameters = tr("{number} parameters").format(number=parameters_text(model.parameters)) if model.parameters else ""
    return DOT.join(filter(None, (model.family, model.format, parameters, source_words(model.source))))


def verdict_line(model: FoundModel, verdict: Verdict | None) -> str:
    """What is known of whether it runs."""
    if verdict is not None:
        return sentence(verdict)
    return translated(model.problem) or tr("Working out whether it fits…")


class FoundListModel(QAbstractListModel):
    """A row for each model of a library, kept up to date by its signals."""

    def __init__(self, library: Library, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._library = library
        self._models = list(library.models())
        self._loaded = ""
        library.found.connect(self._take)
        library.lost.connect(self._drop)
        library.judged.connect(self._changed)

    def set_loaded(self, path: str) -> None:
        """Mark the model that is loaded, "" for none."""
        before, self._loaded = self._loaded, path
        for changed in {before, path} - {""}:
            self._changed(changed)

    def row_of(self, path: str) -> int:
        """The row of a model, -1 if it is not listed."""
        return next((row for row, model in enumerate(self._models) if model.path == path), -1)

    # ---- Qt's side ----------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NO_INDEX) -> int:
        """How many models there are."""
        return 0 if parent.isValid() else len(self._models)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401 - Qt's own signature
        """What a row shows."""
        model = self._models[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return model.name
        if role == MODEL_ROLE:
            return model
        if role == VERDICT_ROLE:
            return self._library.known_verdict(model.path)
        if role == LOADED_ROLE:
            return model.path == self._loaded
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return self._spoken(model)
        return None

    def _spoken(self, model: FoundModel) -> str:
        """A row for a screen reader."""
        parts = [model.name, tr("loaded") if model.path == self._loaded else "", facts_line(model)]
        parts += [bytes_text(model.size_bytes), verdict_line(model, self._library.known_verdict(model.path))]
        return ", ".join(filter(None, parts))

    # ---- the library's side -------------------------------------------------------------------------------------

    def _take(self, model: FoundModel) -> None:
        row = self.row_of(model.path)
        if row >= 0:
            self._models[row] = model
            self._changed(model.path)
            return
        self.beginInsertRows(QModelIndex(), len(self._models), len(self._models))
        self._models.append(model)
        self.endInsertRows()

    def _drop(self, path: str) -> None:
        row = self.row_of(path)
        if row >= 0:
            self.beginRemoveRows(QModelIndex(), row, row)
            del self._models[row]
            self.endRemoveRows()

    def _changed(self, path: str) -> None:
        row = self.row_of(path)
        if row >= 0:
            self.dataChanged.emit(self.index(row), self.index(row))


class SortedModels(QSortFilterProxyModel):
    """The same rows as the user wants them: those with the words searched for; what cannot be run comes last."""

    def __init__(self, source: FoundListModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._by: SortBy = "name"
        self._words: list[str] = []
        self.setSourceModel(source)
        self.setDynamicSortFilter(True)
        self.sort(0)

    def sort_by(self, by: SortBy) -> None:
        """Sort by name or family from A to Z, by size or speed from the largest."""
        self._by = by
        self.invalidate()

    def search(self, words: str) -> None:
        """Leave the models that have all the words."""
        self.beginFilterChange()
        self._words = words.casefold().split()
        self.endFilterChange()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:  # noqa: ARG002 - Qt's signature
        """Whether a model has all the words."""
        model = self._model(row)
        text = f"{model.name}\n{facts_line(model)}\n{model.path}".casefold()
        return all(word in text for word in self._words)

    def lessThan(self, left: Index, right: Index) -> bool:
        """Whether one model comes before another."""
        return self._key(left.row()) < self._key(right.row())

    def _model(self, row: int) -> FoundModel:
        source = self.sourceModel()
        model: FoundModel = source.data(source.index(row, 0), MODEL_ROLE)
        return model

    def _key(self, row: int) -> tuple[Any, ...]:
        model = self._model(row)
        name = (model.name.casefold(), model.path)
        keys: dict[SortBy, tuple[Any, ...]] = {
            "name": (model.path != GUIDE, *name),
            "size": (-model.size_bytes, *name),
            "speed": (-self._speed(row), *name),
            "family": (model.family.casefold(), *name),
        }
        return (not model.runs, *keys[self._by])

    def _speed(self, row: int) -> float:
        source = self.sourceModel()
        verdict: Verdict | None = source.data(source.index(row, 0), VERDICT_ROLE)
        return verdict.plan.predicted_decode_tokens_per_s if verdict is not None and verdict.plan is not None else 0.0

"""Brings the translations up to date with the source: `python -m resources.translations.update`.

Collects every `tr("...")` of `app` into the `.ts` files, keeps what is translated, drops what nobody says any more, and
makes the `.qm` files that the window loads. Qt's own lupdate finds these calls too, but knows neither our one context
nor our plurals. Exit code 1 when a text waits for its translation.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import PySide6

from app.language import CONTEXT, TRANSLATIONS

SOURCE = TRANSLATIONS.parent.parent / "app"
PLURAL_FORMS = {"de": 2, "en": 2}
PLURALS_ONLY = frozenset({"en"})
HEADER = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE TS>\n'


@dataclass(frozen=True, slots=True)
class SourceText:
    """One text of the source.

    Attributes:
        text: In English.
        plural: Whether it has a count.
        file: Where it stands, relative to the package.
    """

    text: str
    plural: bool
    file: str


def collect_texts(root: Path = SOURCE) -> list[SourceText]:
    """Every text of the source once, in the order of the files.

    Raises:
        ValueError: A call of `tr` has no literal text, which nothing could translate.
    """
    found: dict[str, SourceText] = {}
    for path in sorted(root.rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = [node for node in nodes if isinstance(node, ast.Call) and _is_tr(node)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            text = _text_of(call, path)
            plural = len(call.args) > 1 or any(keyword.arg == "count" for keyword in call.keywords)
            before = found.get(text)
            if before is not None and before.plural != plural:
                raise ValueError(f"{path}:{call.lineno}: {text!r} has a count here and none in {before.file}")
            found.setdefault(text, SourceText(text, plural, path.relative_to(root).as_posix()))
    return list(found.values())


def read_translations(path: Path) -> dict[str, tuple[str, ...]]:
    """What a `.ts` file says: for each text its translation, or one per plural form; "" where there is none yet."""
    translations: dict[str, tuple[str, ...]] = {}
    if not path.exists():
        return translations
    for message in ET.parse(path).getroot().iter("message"):  # noqa: S314 - our own file
        source, target = message.find("source"), message.find("translation")
        assert source is not None
        assert target is not None
        forms = [form.text or "" for form in target.iter("numerusform")]
        translations[source.text or ""] = tuple(forms) or (target.text or "",)
    return translations


def write_translations(path: Path, language: str, texts: list[SourceText]) -> int:
    """Write a `.ts` file with exactly these texts, keeping their translations.

    Returns:
        How many are not translated.
    """
    known = read_translations(path)
    root = ET.Element("TS", version="2.1", language=language, sourcelanguage="en")
    context = ET.SubElement(root, "context")
    ET.SubElement(context, "name").text = CONTEXT
    missing = 0
    for text in texts:
        forms = known.get(text.text, ())
        if len(forms) != (PLURAL_FORMS[language] if text.plural else 1) or not all(forms):
            forms = ("",) * (PLURAL_FORMS[language] if text.plural else 1)
            missing += 1
        _add_message(context, text, forms)
    ET.indent(root, "    ")
    path.write_text(HEADER + ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return missing


def texts_for(language: str, texts: list[SourceText]) -> list[SourceText]:
    """What a language's file holds: everything, or for English the plurals."""
    return [text for text in texts if text.plural or language not in PLURALS_ONLY]


def release(path: Path) -> None:
    """Make the `.qm` file of a `.ts` file with Qt's own lrelease."""
    lrelease = Path(PySide6.__file__).parent / ("lrelease.exe" if sys.platform == "win32" else "lrelease")
    command = [str(lrelease), "-silent", str(path), "-qm", str(path.with_suffix(".qm"))]
    subprocess.run(command, check=True)


def main() -> int:
    """Update every language; exit code 1 when something waits for its translation."""
    texts = collect_texts()
    waiting = 0
    for language in PLURAL_FORMS:
        path = TRANSLATIONS / f"rooftop_{language}.ts"
        missing = write_translations(path, language, texts_for(language, texts))
        release(path)
        waiting += missing
        sys.stdout.write(f"{path.name}: {missing} to translate\n")
    return 1 if waiting else 0


def _is_tr(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "tr"


def _text_of(call: ast.Call, path: Path) -> str:
    first = call.args[0] if call.args else None
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        raise ValueError(f"{path}:{call.lineno}: tr() needs a literal text")  # noqa: TRY004 - the source is the input
    return first.value


def _add_message(context: ET.Element, text: SourceText, forms: tuple[str, ...]) -> None:
    message = ET.SubElement(context, "message")
    if text.plural:
        message.set("numerus", "yes")
    ET.SubElement(message, "location", filename=f"../../app/{text.file}")
    ET.SubElement(message, "source").text = text.text
    translation = ET.SubElement(message, "translation")
    if not all(forms):
        translation.set("type", "unfinished")
    if text.plural:
        for form in forms:
            ET.SubElement(translation, "numerusform").text = form
    else:
        translation.text = forms[0]


if __name__ == "__main__":
    raise SystemExit(main())

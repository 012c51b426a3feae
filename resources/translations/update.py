"""Brings the translations up to date with the source: `python -m resources.translations.update`.

Collects every `tr("...")` and `say("...")` of `app` and `engine` into the `.ts` files, keeps what is translated,
drops what nobody says any more, and makes the `.qm` files that the window loads. Qt's own lupdate finds `tr` too, but
knows neither our one context nor our plurals. Exit code 1 when a text waits for its translation.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import PySide6

from app.language import CONTEXT, TRANSLATIONS

ROOT = TRANSLATIONS.parent.parent
SOURCES = (ROOT / "app", ROOT / "engine")
PLURAL_FORMS = {"de": 2, "en": 2}
PLURALS_ONLY = frozenset({"en"})
MARKERS = frozenset({"tr", "say", "say_count"})
HEADER = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE TS>\n'


@dataclass(frozen=True, slots=True)
class SourceText:
    """One text of the source.

    Attributes:
        text: In English.
        plural: Whether it has a count.
        file: Where it stands, relative to the checkout.
        one: Its English singular, where the source says it.
    """

    text: str
    plural: bool
    file: str
    one: str = ""


def collect_texts(sources: Iterable[Path] = SOURCES) -> list[SourceText]:
    """Every text of the source once, in the order of the files.

    Raises:
        ValueError: A marked call has no literal text, which nothing could translate, or not the values that it names.
    """
    found: dict[str, SourceText] = {}
    for path in (path for source in sources for path in sorted(source.rglob("*.py"))):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = [node for node in nodes if isinstance(node, ast.Call) and _marker(node) in MARKERS]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            text = _text_of_call(call, path)
            if not _has_words(text.text):
                continue
            before = found.setdefault(text.text, text)
            if before.plural != text.plural:
                raise ValueError(f"{path}:{call.lineno}: {text.text!r} has a count here and none in {before.file}")
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
    if language in PLURALS_ONLY:
        known = {text.text: (text.one, text.text) for text in texts if text.one} | known
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


def _marker(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _text_of_call(call: ast.Call, path: Path) -> SourceText:
    """What a call of a marker says."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    if _marker(call) == "tr":
        plural = len(call.args) > 1 or any(keyword.arg == "count" for keyword in call.keywords)
        return SourceText(_literal(call, 0, path), plural, name)
    plural = _marker(call) == "say_count"
    text = _literal(call, int(plural), path)
    one = _literal(call, 0, path) if plural else ""
    given = {keyword.arg for keyword in call.keywords}
    named = {field for words in (one or text, text) for _, field, _, _ in Formatter().parse(words) if field is not None}
    if None not in given and named != given:
        raise ValueError(f"{path}:{call.lineno}: {text!r} names {sorted(named)} and is given {sorted(given, key=str)}")
    return SourceText(text, plural, name, one)


def _literal(call: ast.Call, index: int, path: Path) -> str:
    """One of a call's texts."""
    argument = call.args[index] if len(call.args) > index else None
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
        raise ValueError(f"{path}:{call.lineno}: {_marker(call)}() needs a literal text")  # noqa: TRY004 - it is input
    return argument.value


def _has_words(text: str) -> bool:
    """Whether there is anything to translate beside placeholders and marks."""
    return any(words.strip(" ,;:.()") for words, *_ in Formatter().parse(text))


def _add_message(context: ET.Element, text: SourceText, forms: tuple[str, ...]) -> None:
    message = ET.SubElement(context, "message")
    if text.plural:
        message.set("numerus", "yes")
    ET.SubElement(message, "location", filename=f"../../{text.file}")
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

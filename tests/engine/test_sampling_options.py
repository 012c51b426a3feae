"""Sampling on the command line: every option arrives, and a bad file is refused before anything is loaded."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

from engine.__main__ import BAD_INPUT, DONE, main
from engine.config import SamplingParams
from engine.errors import ConfigurationError
from engine.sampling_options import add_sampling_options, sampling_of

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def parse(*arguments: str) -> SamplingParams:
    parser = argparse.ArgumentParser()
    add_sampling_options(parser)
    return sampling_of(parser.parse_args(arguments))


def test_without_options_the_defaults_hold() -> None:
    assert parse() == SamplingParams(max_tokens=256)


def test_every_option_arrives(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    sampling = parse(
        *("--max-tokens", "7", "--temperature", "1.5", "--top-p", "0.5", "--top-k", "9", "--min-p", "0.1"),
        *("--repetition-penalty", "1.2", "--seed", "3", "--stop", "a", "--stop", "b"),
        *("--json-schema", str(tmp_path / "s.json")),
    )
    assert sampling == SamplingParams(7, 1.5, 0.5, 9, 0.1, 1.2, 3, ("a", "b"), json_schema=json.dumps(SCHEMA))
    (tmp_path / "g.lark").write_text("start: /a+/")
    assert parse("--grammar", str(tmp_path / "g.lark")).grammar == "start: /a+/"
    options = {"ignore_eos"} ^ {field.name for field in fields(SamplingParams)}
    parser = argparse.ArgumentParser()
    add_sampling_options(parser)
    assert vars(parser.parse_args([])).keys() == options


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xff\xff", "not UTF-8"),
        (b"{", "not valid JSON"),
        (b"x" * 70_000, "are the limit"),
        (b'{"not": {}}', 'Unimplemented keys: ["not"]'),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        parse("--json-schema", str(path))
    assert words in caught.value.message


def test_the_command_replies_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    common = ("generate", "--model", "guide", "--device", "cpu", "--prompt", "Is it?", "--json-schema", str(path))
    assert main([*common, "--json", "--cpu-threads", "1"]) == DONE
    reply = json.loads(capsys.readouterr().out)
    jsonschema.validate(json.loads(reply["text"]), SCHEMA)
    assert reply["reason"] == "stop"
    path.write_text('{"type": "odd"}')
    assert main(list(common)) == BAD_INPUT
    assert capsys.readouterr().err.startswith("engine: The JSON schema cannot be used: Invalid type: odd.")

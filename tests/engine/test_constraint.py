"""Replies bound to a schema: JSON that validates, whatever the schema, or one sentence before anything is written."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from engine import Engine, EngineConfig, SamplingParams
from engine.bench.guide_gguf import guide_file
from engine.checkpoint.catalog import guide_path
from engine.constraint import MOST_TOKEN_BYTES, Constraint, Vocabulary, check_constraint
from engine.errors import ConfigurationError, UnsupportedModelError
from engine.messages import Finished, Token
from engine.setting_limits import MAX_SCHEMA_CHARS
from engine.tokenizer import ChatTokenizer
from tests.examples import examples
from tests.gguf_vocabularies import NORMAL, UNKNOWN, vocabulary, write_vocabulary

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["cpu", "gpu", "é\U0001f600"]}, "minItems": 1, "maxItems": 3},
        "nested": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
    },
    "required": ["name", "age", "tags", "nested"],
    "additionalProperties": False,
}
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False}
QUESTION = [{"role": "user", "content": "What is an expert?"}]


@pytest.fixture(scope="module", params=["auto", "torch"])
def guide(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The guide by the native decoder, and by torch."""
    with Engine.load("guide", EngineConfig(device="cpu", isa=request.param, cpu_threads=1)) as engine:
        yield engine


def reply(engine: Engine, sampling: SamplingParams) -> tuple[str, Finished]:
    events = list(engine.generate(QUESTION, sampling))
    assert isinstance(events[-1], Finished)
    return "".join(event.text for event in events if isinstance(event, Token)), events[-1]


def bound(schema: Any, **others: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 1500, "json_schema": json.dumps(schema), **others})


# ---- what comes out is what was asked for ----


@pytest.mark.parametrize("temperature", [0.0, 0.8, 5.0])
def test_the_guide_answers_in_the_schemas_form(guide: Engine, temperature: float) -> None:
    text, end = reply(guide, bound(PERSON, temperature=temperature, seed=3))
    jsonschema.validate(json.loads(text), PERSON)
    assert end.reason == "stop"


def _schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Bounded schemas: every reply ends."""
    leaves = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.integers(-50, 50).map(lambda low: {"type": "integer", "minimum": low, "maximum": low + 9}),
        st.integers(0, 6).map(lambda size: {"type": "string", "minLength": size // 2, "maxLength": size}),
        st.lists(st.text(max_size=5), min_size=1, max_size=3, unique=True).map(lambda values: {"enum": values}),
        st.text(max_size=6).map(lambda value: {"const": value}),
        st.just({"type": "string", "pattern": "^[a-f]{2}-[0-9]{3}$"}),
    )

    def deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        lists = st.tuples(inner, st.integers(0, 2)).map(
            lambda found: {"type": "array", "items": found[0], "maxItems": found[1]}
        )
        fields = st.dictionaries(st.text(max_size=4), inner, max_size=3)
        objects = fields.map(
            lambda found: {
                "type": "object",
                "properties": found,
                "required": sorted(found)[:2],
                "additionalProperties": False,
            }
        )
        return st.one_of(lists, objects, st.lists(inner, min_size=1, max_size=2).map(lambda found: {"anyOf": found}))

    return st.recursive(leaves, deeper, max_leaves=6)


@examples(60, HealthCheck.function_scoped_fixture)
@given(schema=_schemas(), seed=st.integers(0, 1 << 32))
def test_any_schema_gives_json_that_validates(guide: Engine, schema: dict[str, Any], seed: int) -> None:
    text, end = reply(guide, bound(schema, temperature=3.0, top_p=1.0, seed=seed))
    assert end.reason == "stop", text
    jsonschema.validate(json.loads(text), schema)


def test_a_reply_that_is_cut_off_says_so_and_is_the_beginning(guide: Engine) -> None:
    text, end = reply(guide, bound(PERSON, temperature=0.0, max_tokens=6))
    whole, _ = reply(guide, bound(PERSON, temperature=0.0))
    assert end.reason == "length"
    assert whole.startswith(text)


@pytest.mark.parametrize("cut", [1, 6, 11])
def test_a_reply_that_goes_on_stays_within_its_schema(guide: Engine, cut: int) -> None:
    begun, _ = reply(guide, bound(PERSON, temperature=0.0, max_tokens=cut))
    messages = [*QUESTION, {"role": "assistant", "content": begun}]
    events = list(guide.generate(messages, bound(PERSON, temperature=0.0), continue_reply=True))
    text = begun + "".join(event.text for event in events if isinstance(event, Token))
    jsonschema.validate(json.loads(text), PERSON)


@pytest.mark.parametrize("so_far", ["Well, an expert is", "\ud83d"])
def test_a_reply_that_follows_no_schema_cannot_go_on_by_one(guide: Engine, so_far: str) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": so_far}]
    with pytest.raises(ConfigurationError, match="does not follow the schema"):
        list(guide.generate(messages, bound(PERSON), continue_reply=True))


def test_a_grammar_binds_as_well(guide: Engine) -> None:
    text, end = reply(guide, SamplingParams(grammar='start: "yes" | "no" | /[0-9]{3}/', temperature=4.0, seed=1))
    assert text in ("yes", "no") or (text.isdecimal() and len(text) == 3)
    assert end.reason == "stop"


def test_the_grammars_end_ends_replies_that_ignore_the_models_own(guide: Engine) -> None:
    text, end = reply(guide, bound({"const": "x"}, ignore_eos=True))
    assert (json.loads(text), end.reason) == ("x", "stop")


def test_the_next_reply_is_free_again(guide: Engine) -> None:
    greedy = SamplingParams(max_tokens=12, temperature=0.0)
    before, _ = reply(guide, greedy)
    reply(guide, bound(PERSON))
    assert reply(guide, greedy)[0] == before


# ---- both kinds of tokenizers ----


def _draw(tokenizer: ChatTokenizer, schema: dict[str, Any], seed: int) -> str:
    """The text of tokens drawn at random from those allowed."""
    constraint, stream, text = Constraint(bound(schema), Vocabulary(tokenizer)), tokenizer.decoder(), ""
    generator = random.Random(seed)
    while not constraint.ended:
        token = generator.choice(constraint.allowed().nonzero()[:, 0].tolist())
        constraint.take(token)
        text += stream.push(token)
    return text + stream.flush()


@pytest.mark.parametrize("value", ["plain", "é\U0001f600 漢", 'quo"te\\', [1, {"a": None}], "tab\tline\n"])
def test_tokens_of_safetensors_and_gguf_spell_the_same(tmp_path: Path, value: object) -> None:
    bytes_pairs = guide_file(tmp_path, "Q8_0")
    pieces = {"<unk>": UNKNOWN, "<s>": 3, "</s>": 3, **{f"<0x{byte:02X}>": 6 for byte in range(256)}, "▁": NORMAL}
    pieces |= dict.fromkeys(['"', "{", "}", ":", "p", "la", "in", "pla", "▁[", "[", "é"], NORMAL)
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces) - 259)]
    metadata = vocabulary("llama", pieces, scores=scores, eos_token_id=2, bos_token_id=1, unknown_token_id=0)
    sentence_pieces = write_vocabulary(metadata, tmp_path / "pieces.gguf")
    for path in (guide_path(), bytes_pairs, sentence_pieces):
        tokenizer = ChatTokenizer.open(path)
        for seed in range(3):
            assert json.loads(_draw(tokenizer, {"enum": [value]}, seed)) == value, path


def test_special_tokens_are_no_text(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.open(guide_path())
    constraint = Constraint(bound({"type": "string"}), Vocabulary(tokenizer))
    constraint.take(tokenizer.encode('"', bos=False)[0])
    for text in ("<s>", "<pad>", "<|user|>"):
        (token,) = tokenizer.encode(text, bos=False)
        assert not bool(constraint.allowed()[token]), text


def test_a_tokenizer_whose_bytes_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ChatTokenizer.open(guide_path())
    monkeypatch.setattr(ChatTokenizer, "as_json", lambda _: '{"model": {"type": "Odd"}}')
    with pytest.raises(UnsupportedModelError, match="cannot be bound to a schema"):
        Vocabulary(tokenizer)


def _with_vocabulary(folder: Path, change: Callable[[dict[str, Any]], None]) -> ChatTokenizer:
    """The guide's tokenizer with another tokenizer.json."""
    for name in ("config.json", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copyfile(guide_path() / name, folder / name)
    parsed = json.loads((guide_path() / "tokenizer.json").read_text(encoding="utf-8"))
    change(parsed)
    (folder / "tokenizer.json").write_text(json.dumps(parsed), encoding="utf-8")
    return ChatTokenizer.open(folder)


@pytest.mark.parametrize("characters", [1025, 1 << 21])
def test_a_token_longer_than_any_is_refused_at_once(tmp_path: Path, characters: int) -> None:
    added = {"id": 4096, "content": "a" * characters, "special": False, "normalized": False}
    tokenizer = _with_vocabulary(tmp_path, lambda parsed: parsed["added_tokens"].append(added | _PLAIN))
    with pytest.raises(UnsupportedModelError, match="its vocabulary is too large"):
        Vocabulary(tokenizer)


@pytest.mark.parametrize("number", [4_000_000, 200_000_000])
def test_an_id_higher_than_any_is_refused_at_once(tmp_path: Path, number: int) -> None:
    tokenizer = _with_vocabulary(tmp_path, lambda parsed: parsed["model"]["vocab"].update({"odd": number}))
    with pytest.raises(UnsupportedModelError, match="its vocabulary is too large"):
        Vocabulary(tokenizer)


def test_tokens_as_long_as_allowed_are_followed(tmp_path: Path) -> None:
    added = {"id": 4096, "content": "a" * MOST_TOKEN_BYTES, "special": False, "normalized": False}
    tokenizer = _with_vocabulary(tmp_path, lambda parsed: parsed["added_tokens"].append(added | _PLAIN))
    assert json.loads(_draw(tokenizer, {"enum": [5]}, 0)) == 5


# ---- refusals, before anything is written ----


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "foo"}, "Invalid type: foo"),
        ({"not": {"type": "string"}}, 'Unimplemented keys: ["not"]'),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
        ({"properties": {"a": {"$ref": "http://example.com/a"}}}, "does not fetch"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "string", "format": "foo"}, "Unknown format"),
        ({"const": float("nan")}, "cannot be used"),
        ({"const": "\ud800"}, "cannot be used"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_name(schema: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_constraint(bound(schema))
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 240


@pytest.mark.parametrize("own", [{"item_separator": "and"}, {"key_separator": " is "}, {"unknown": 1}])
def test_a_schema_has_no_say_in_how_it_is_read(guide: Engine, own: object) -> None:
    text, _ = reply(guide, bound({**PERSON, "x-guidance": own}, temperature=0.0))
    jsonschema.validate(json.loads(text), PERSON)


def test_a_schema_that_only_shows_with_tokens_is_refused_before_generating(guide: Engine) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        next(iter(guide.generate(QUESTION, bound({"$ref": "#"}))))


def test_ids_without_text_have_no_schema(guide: Engine) -> None:
    with pytest.raises(ConfigurationError, match="Token ids"):
        next(iter(guide.generate([5, 6], bound({}))))


def test_no_constraint_is_no_error() -> None:
    check_constraint(SamplingParams())


# ---- hostile schemas are bounded ----


def _deep(levels: int) -> str:
    return '{"items":' * levels + "{}" + "}" * levels


HOSTILE = {
    "deep": _deep(6000),
    "wide": json.dumps({"type": "object", "properties": {f"k{i}": {} for i in range(5000)}}),
    "choices": json.dumps({"enum": [f"{i:x}" * 3 for i in range(6000)]}),
    "pattern": json.dumps({"type": "string", "pattern": "(a|b|c){1000}{1000}"}),
    "patterns": json.dumps({"anyOf": [{"type": "string", "pattern": f"(.*x{i}.*){{30}}"} for i in range(200)]}),
    "array": json.dumps({"type": "array", "minItems": 10**8, "items": {"type": "array", "minItems": 10**8}}),
    "string": json.dumps({"type": "string", "minLength": 10**8}),
    "both": json.dumps({"allOf": [{"anyOf": [{"$ref": "#/$defs/a"}] * 8}] * 8, "$defs": {"a": {"type": "number"}}}),
    "circle": json.dumps({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}] * 2},
                                                         "b": {"allOf": [{"$ref": "#/$defs/a"}] * 2}}}),
    "doubling": json.dumps({"$ref": "#/$defs/0", "$defs": {
        **{str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}, {"type": "array", "prefixItems":
           [{"$ref": f"#/$defs/{i + 1}"}] * 2}]} for i in range(60)}, "60": {"type": "null"}}}),
    "multiple": json.dumps({"type": "number", "multipleOf": 0.000123457}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_answered_within_bounds(guide: Engine, name: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ConfigurationError):
        events = list(guide.generate(QUESTION, SamplingParams(max_tokens=30, json_schema=HOSTILE[name])))
        assert isinstance(events[-1], Finished)
    assert time.process_time() - started < 20, "seconds of work, not minutes"


def test_too_long_a_schema_is_refused_by_its_length() -> None:
    with pytest.raises(ConfigurationError, match="65,536 are the limit"):
        SamplingParams(json_schema=json.dumps({"enum": ["x" * MAX_SCHEMA_CHARS]}))


@pytest.mark.parametrize("text", ["", "  ", "{", "[]", "7", "[" * 60_000, '{"a": ' + "9" * 5000 + "}"])
def test_what_is_no_schema_is_refused_by_the_parameters(text: str) -> None:
    with pytest.raises(ConfigurationError, match="JSON schema"):
        SamplingParams(json_schema=text)


def test_one_of_both() -> None:
    with pytest.raises(ConfigurationError, match="a JSON schema and a grammar"):
        SamplingParams(json_schema="{}", grammar="start: /a/")
    with pytest.raises(ConfigurationError, match="grammar cannot be used"):
        check_constraint(SamplingParams(grammar="start: ("))

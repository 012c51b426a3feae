"""The tokenizer against transformers' own, and its stream against whole decoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from engine.errors import CheckpointError, ConfigurationError
from engine.messages import ChatMessage
from engine.tokenizer import MISTRAL_TEMPLATE, ChatTokenizer
from tests.checkpoints import BOS_ID, EOS_ID, write_tokenizer
from tests.examples import examples

CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Zwölf <b>Boxkämpfer</b> & 漢字 😀\n\n"}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b</s>"},
        {"role": "user", "content": "{{ 7 * 7 }}"},
    ],
]
QWEN_LIKE = """
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {%- if loop.index0 > 100 %}{% break %}{% endif %}
    {{- '<|im_start|>' + message.role + '\n' + content ~ '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
"""
TRAINING_TAG = (
    "{{ messages | tojson }}{% for m in messages %}{% generation %}{{ m['content'] | trim }}{% endgeneration %}"
    "{{ ', '.join(['x', m.role]) | indent(2) }}{% endfor %}"
)


def _sentencepiece(folder: Path) -> None:
    """A byte-fallback tokenizer as Mixtral's, with a few pieces."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", "a", "b", "\u2581a", "\u2581b", "ab", "\u2581ab", "é", "\ufffd"]
    merges = [("\u2581", "a"), ("\u2581", "b"), ("a", "b"), ("\u2581", "ab")]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)  # noqa: S106
    )
    replace = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS_ID)])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **tokens}))


def _byte_level(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, 300)


@pytest.fixture(scope="module", params=[_byte_level, _sentencepiece], ids=["byte-level", "byte-fallback"])
def any_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write: Callable[[Path], None] = request.param
    write(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _byte_level(tmp_path)
    return tmp_path


def _edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    values.update(changes)
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}), encoding="utf-8")


def _reference(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


# ---- against transformers ----


@pytest.mark.parametrize("template", [MISTRAL_TEMPLATE, QWEN_LIKE, TRAINING_TAG], ids=["mistral", "qwen", "tags"])
@pytest.mark.parametrize("chat", CHATS, ids=["short", "unicode", "turns"])
def test_chat_ids_equal_transformers(any_folder: Path, template: str, chat: list[dict[str, str]]) -> None:
    (any_folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    expected = _reference(any_folder).apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ChatTokenizer.open(any_folder).encode_chat(chat) == expected


@pytest.mark.parametrize(
    ("odd", "taken"), [("a\ud83db", "a\ufffdb"), ("\ude00", "\ufffd"), ("\ud83d\ude00", "\U0001f600")]
)
def test_half_of_a_surrogate_pair_is_an_unknown_character(any_folder: Path, odd: str, taken: str) -> None:
    tokenizer = ChatTokenizer.open(any_folder)
    assert tokenizer.encode(odd) == tokenizer.encode(taken)
    assert tokenizer.encode_chat([ChatMessage("user", odd)]) == tokenizer.encode_chat([ChatMessage("user", taken)])


def test_raw_text_and_decoding_equal_transformers(any_folder: Path) -> None:
    ours, theirs = ChatTokenizer.open(any_folder), _reference(any_folder)
    for text in ("", " a b", "é漢😀", "a</s>b"):
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"]
        assert ids == [BOS_ID, *ours.encode(text, bos=False)]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_template_of_the_configuration_and_named_templates(folder: Path) -> None:
    config = folder / "tokenizer_config.json"
    _edit(config, chat_template=[{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}])
    assert ChatTokenizer.open(folder).render_chat(CHATS[0]) == "D"
    _edit(config, chat_template="S")
    assert ChatTokenizer.open(folder).render_chat(CHATS[0]) == "S"
    (folder / "chat_template.jinja").write_text("J")
    assert ChatTokenizer.open(folder).render_chat(CHATS[0]) == "J"


@pytest.mark.parametrize(
    ("model_type", "prompt"),
    [("mixtral", "<s> [INST] Hi [/INST]"), ("olmoe", "<s>User: Hi\nAssistant:")],
)
def test_without_a_template_the_family_decides(folder: Path, model_type: str, prompt: str) -> None:
    _edit(folder / "tokenizer_config.json", chat_template=None)
    _edit(folder / "config.json", model_type=model_type)
    assert ChatTokenizer.open(folder).render_chat(CHATS[0]) == prompt


def test_without_a_template_a_chatml_vocabulary_decides(folder: Path) -> None:
    added = {"400": {"content": "<|im_start|>", "special": True}, "401": {"content": "<|im_end|>", "special": True}}
    _edit(folder / "tokenizer_config.json", chat_template=None, added_tokens_decoder=added)
    prompt = ChatTokenizer.open(folder).render_chat(CHATS[0])
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_refused_system_role_is_folded_into_the_first_user_message(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", chat_template=MISTRAL_TEMPLATE)
    tokenizer = ChatTokenizer.open(folder)
    chat = [ChatMessage("system", "Be brief."), ChatMessage("user", "Hi")]
    assert tokenizer.render_chat(chat) == "<s> [INST] Be brief.\n\nHi [/INST]"
    with pytest.raises(ConfigurationError, match="system role"):
        tokenizer.render_chat([ChatMessage("system", "Be brief.")])


def test_empty_conversation_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        ChatTokenizer.open(folder).encode_chat([])


def test_eos_ids_come_from_all_three_files(folder: Path) -> None:
    _edit(folder / "generation_config.json", eos_token_id=[7, 9, -1, True, "x"])
    _edit(folder / "config.json", eos_token_id=8)
    assert ChatTokenizer.open(folder).eos_ids == {EOS_ID, 7, 8, 9}


def test_start_token_follows_tokenizer_json(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", add_bos_token=False)
    assert ChatTokenizer.open(folder).encode("a")[0] == BOS_ID == _reference(folder)("a")["input_ids"][0]
    _edit(folder / "tokenizer.json", post_processor=None)
    _edit(folder / "tokenizer_config.json", add_bos_token=True)
    assert ChatTokenizer.open(folder).encode("a") == _reference(folder)("a")["input_ids"]
    assert BOS_ID not in ChatTokenizer.open(folder).encode("a")


def test_vocabulary_ends_after_the_largest_id(folder: Path) -> None:
    assert ChatTokenizer.open(folder).vocab_size == 259


# ---- damaged files ----


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}'),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer_config.json", b"[1]"),
        ("tokenizer_config.json", b"[" * 100_000),
        ("tokenizer_config.json", b'{"chat_template": 5}'),
        ("generation_config.json", b"nope"),
        ("generation_config.json", b'{"a": "\\ud83d"}'),
        ("chat_template.jinja", b"{% for %}"),
        ("chat_template.jinja", b"x" * (1 << 19)),
    ],
)
def test_damaged_file_is_a_checkpoint_error(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        ChatTokenizer.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": ""}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}},
        {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"}, "pre_tokenizer": None},
    ],
    ids=["endless search", "panic", "no unknown token"],
)
def test_a_tokenizer_that_fails_at_work_is_a_checkpoint_error(folder: Path, part: dict[str, Any]) -> None:
    _edit(folder / "tokenizer.json", **part)
    with pytest.raises(CheckpointError, match="tokenizer fails") as caught:
        ChatTokenizer.open(folder).encode("a" * 40 + "!", bos=False)
    assert "\n" not in str(caught.value)


def test_a_decoder_that_fails_is_a_checkpoint_error(folder: Path) -> None:
    _edit(folder / "tokenizer.json", decoder={"type": "Strip", "content": "a", "start": 1 << 30, "stop": 1 << 30})
    tokenizer = ChatTokenizer.open(folder)
    ids = tokenizer.encode("aaaa")
    with pytest.raises(CheckpointError, match="tokenizer fails"):
        tokenizer.decode(ids)
    with pytest.raises(CheckpointError, match="tokenizer fails"):
        _streamed(tokenizer, ids)


def test_ids_and_templates_of_no_use_are_left_out(folder: Path) -> None:
    _edit(folder / "generation_config.json", eos_token_id=[7, 1 << 70, -1, True, "2"])
    _edit(
        folder / "tokenizer_config.json", chat_template=[{"name": [], "template": "a"}, {"name": "b", "template": "c"}]
    )
    tokenizer = ChatTokenizer.open(folder)
    assert tokenizer.eos_ids == {7, EOS_ID}
    assert tokenizer.render_chat([ChatMessage("user", "Hi")]) == "c"


def test_missing_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        ChatTokenizer.open(tmp_path)


# ---- streaming ----


def _streamed(tokenizer: ChatTokenizer, ids: list[int]) -> str:
    stream = tokenizer.decoder()
    return "".join([*(stream.push(token) for token in ids), stream.flush()])


@examples(150)
@given(text=st.text(max_size=24) | st.text(alphabet="ab é😀漢\n", max_size=24))
def test_streamed_text_equals_whole_decoding(any_folder: Path, text: str) -> None:
    tokenizer = _opened(any_folder)
    ids = tokenizer.encode(text)
    assert _streamed(tokenizer, ids) == tokenizer.decode(ids)


@examples(150)
@given(ids=st.lists(st.integers(0, 400), max_size=120))
def test_any_tokens_stream_without_failure(any_folder: Path, ids: list[int]) -> None:
    tokenizer = _opened(any_folder)
    streamed = _streamed(tokenizer, ids)
    assert len(streamed) <= len(tokenizer.decode(ids)) + len(ids)


def test_a_character_appears_with_its_last_byte_and_special_tokens_never(folder: Path) -> None:
    tokenizer = ChatTokenizer.open(folder)
    stream = tokenizer.decoder()
    pieces = [stream.push(token) for token in [BOS_ID, *tokenizer.encode("a😀", bos=False), EOS_ID]]
    assert pieces == ["", "a", "", "", "", "😀", ""]
    assert stream.push(tokenizer.encode("😀", bos=False)[0]) == ""
    assert stream.flush() == "\ufffd"


_TOKENIZERS: dict[Path, ChatTokenizer] = {}


def _opened(folder: Path) -> ChatTokenizer:
    """One tokenizer for all examples; an earlier test may have left a template beside it."""
    if folder not in _TOKENIZERS:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        _TOKENIZERS[folder] = ChatTokenizer.open(folder)
    return _TOKENIZERS[folder]


# ---- a reply that goes on ----


@pytest.mark.parametrize("template", [MISTRAL_TEMPLATE, QWEN_LIKE], ids=["mistral", "qwen"])
@pytest.mark.parametrize("text", ["Hello the", "Hi", "é漢😀", "Hello "])
def test_an_open_reply_ends_where_its_text_does(folder: Path, template: str, text: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokenizer = ChatTokenizer.open(folder)
    question = {"role": "user", "content": "Hi"}
    open_reply = tokenizer.render_open_reply([question, {"role": "assistant", "content": text}])
    whole = tokenizer.render_chat([question, {"role": "assistant", "content": text}, question])
    assert open_reply.endswith(text)
    assert whole.startswith(open_reply.rstrip())


def test_an_open_reply_that_the_template_changes_follows_its_opening(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.role }}]{% endfor %}{{ 'O:' }}")
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " so far"}]
    assert ChatTokenizer.open(folder).render_open_reply(chat) == "[user]O: so far"


@pytest.mark.parametrize("chat", [[], [{"role": "user", "content": "Hi"}]])
def test_only_a_reply_can_go_on(folder: Path, chat: list[dict[str, str]]) -> None:
    with pytest.raises(ConfigurationError, match="does not end with a reply"):
        ChatTokenizer.open(folder).encode_chat(chat, continue_reply=True)


# ---- gpt-oss's replies in several parts ----

CHANNEL_SIGNS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>")
# What the published template uses of Jinja: the date, macros, namespaces, and a refusal of channels in a message.
HARMONY = """
{%- macro system() -%}
    {{- "Current date: " + strftime_now("%Y-%m-%d") + "\n\nReasoning: " + (reasoning_effort or "medium") }}
{%- endmacro -%}
{%- set last = namespace(assistant=false) %}
{{- "<|start|>system<|message|>" }}{{ system() }}{{ "<|end|>" }}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- if "<|channel|>analysis<|message|>" in message.content %}
            {{- raise_exception("You have passed a message containing <|channel|> tags in the content field.") }}
        {%- endif %}
        {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}
        {%- set last.assistant = true %}
    {%- else %}
        {{- "<|start|>" + message.role + "<|message|>" + message.content + "<|end|>" }}
    {%- endif %}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
"""
HARMONY_REPLY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes<|return|>"


@pytest.fixture
def channels(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens([AddedToken(sign, normalized=False) for sign in CHANNEL_SIGNS])
    tokenizer.save(str(path))
    (folder / "chat_template.jinja").write_text(HARMONY, encoding="utf-8")
    return folder


def test_tokens_that_tell_parts_apart_are_shown(channels: Path) -> None:
    tokenizer = ChatTokenizer.open(channels)
    stream, ids = tokenizer.decoder(), tokenizer.encode(HARMONY_REPLY, bos=False)
    assert "".join(map(stream.push, ids)) == HARMONY_REPLY.removesuffix("<|return|>")
    assert len(ids) < len(HARMONY_REPLY.replace("<|", "").replace("|>", ""))  # each sign is one token


def test_a_tokenizer_without_channels_shows_no_special_token(channels: Path) -> None:
    path = channels / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<|channel|>", "<|other|>"), encoding="utf-8")
    tokenizer = ChatTokenizer.open(channels)
    assert tokenizer.decode(tokenizer.encode("<|start|>a<|end|>", bos=False)) == "a"


def test_earlier_replies_are_final_and_one_goes_on_where_its_thoughts_stopped(channels: Path) -> None:
    tokenizer = ChatTokenizer.open(channels)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    assert tokenizer.render_chat(chat).endswith(
        "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Yes<|end|><|start|>assistant"
    )
    assert tokenizer.render_open_reply(chat).endswith("<|channel|>final<|message|>Yes")
    chat[1]["content"] = "<|channel|>analysis<|message|>Hm"
    assert tokenizer.render_open_reply(chat).endswith("<|end|><|start|>assistant<|channel|>analysis<|message|>Hm")

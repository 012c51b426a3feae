"""Text to token ids and back, with a model's own chat template.

Built on the `tokenizers` library and the model's tokenizer.json alone: importing it takes 0.04 s where transformers
takes 0.8 s, and that file is what transformers' `TokenizersBackend` loads, its choice for Mixtral and most MoE
families. From tokenizer_config.json come the names of the special tokens and the chat template, whose place a
chat_template.jinja takes; from generation_config.json and config.json the ids that end a reply. A GGUF file says all
of this in its own metadata, which `engine.gguf_tokenizer` reads.

A model without a chat template is prompted with ChatML where the vocabulary has its tokens, otherwise as its family was
trained: Mistral's `[INST]` for mixtral and mistral, and for others "User:" and "Assistant:" lines, which a base model
continues. A template that refuses the system role (Mistral's own) is given the system text at the head of the first
user message.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from engine.chat_template import ChatTemplate
from engine.checkpoint.gguf_config import is_converted
from engine.checkpoint.gguf_file import read_gguf_header
from engine.checkpoint.gguf_model import split_paths
from engine.checkpoint.model_folder import MAX_TOKENIZER_BYTES, TOKENIZER, check_tokenizer, find_gguf
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, fill, open_regular, quote, read_json_object
from engine.errors import CheckpointError, ConfigurationError
from engine.gguf_tokenizer import tokenizer_from_metadata
from engine.messages import ChatMessage
from engine.sentences import say

SETTINGS = "tokenizer_config.json"
MAX_SETTINGS_BYTES = 16 << 20

_MAX_OPEN_CHARS = 3  # an incomplete character of 4 bytes shows as up to 3 U+FFFD
_PATIENCE_TOKENS = 32  # after which what looks incomplete counts as no text
_MAX_WINDOW_TOKENS = 64

_CHANNEL_SIGNS = ("<|channel|>", "<|return|>")  # a vocabulary with both is gpt-oss's
_CHANNEL_TOKENS = re.compile(
    r'("content"\s*:\s*"<\|(?:channel|message|start|constrain|end)\|>"[^{}]*?"special"\s*:\s*)true'
)

MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('system role') }}"
    "{% elif message.role == 'user' %} [INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n{% endfor %}"
    "Assistant:"
)


class TokenStream:
    """Turns tokens into text as they come, whole characters only; special tokens show nothing.

    Decodes the tokens after the last whole character together with the ones of the piece before, because a token's text
    can depend on its neighbour. Not `tokenizers.decoders.DecodeStream`: that raises on bytes that are no UTF-8, which a
    model may well draw, and never gives up what it holds at the end.

    Args:
        tokenizer: Whose tokens they are.
        before: The tokens that a text goes on after; a word's space is lost at the beginning of a text.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        """See the class."""
        self._tokenizer = tokenizer
        self._window = list(before)
        self._old_tokens = len(self._window)  # of the window, those of the piece before
        self._shown_chars = len(self._decode(self._window))  # of the window's text

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._window.append(token)
        return self._take()

    def flush(self) -> str:
        """The text of what was held back, once the reply is over: incomplete characters as U+FFFD."""
        text, self._window = self._decode(self._window), []
        return text[self._shown_chars :]

    def _take(self) -> str:
        text = self._decode(self._window)
        whole = text
        if text.endswith("\ufffd"):
            waited = len(self._window) - self._old_tokens
            if waited < _PATIENCE_TOKENS:
                return ""
            if waited < _MAX_WINDOW_TOKENS:
                whole = text[:-_MAX_OPEN_CHARS] + text[-_MAX_OPEN_CHARS:].rstrip("\ufffd")
        new = whole[self._shown_chars :]
        if new and whole == text:
            self._window = self._window[self._old_tokens :]
            self._old_tokens = len(self._window)
            self._shown_chars = len(self._decode(self._window))
        else:
            self._shown_chars += len(new)
        return new

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


class ChatTokenizer:
    """A model's tokenizer and chat template; `open` makes one from the model's files.

    Attributes:
        eos_ids: Every id that ends a reply.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate, eos_ids: frozenset[int], bos_id: int | None
    ) -> None:
        """Wire the parts.

        Args:
            tokenizer: Text to ids.
            template: Messages to text.
            eos_ids: Every id that ends a reply.
            bos_id: What a raw prompt begins with, None for nothing.
        """
        self.eos_ids = eos_ids
        self._tokenizer = tokenizer
        self._template = template
        self._bos_id = bos_id

    @classmethod
    def open(cls, path: Path) -> ChatTokenizer:
        """Read a model's tokenizer.

        Args:
            path: A folder with tokenizer.json, a GGUF file, or a folder with a GGUF model.

        Raises:
            CheckpointError: The tokenizer is missing, or a file is damaged.
            UnsupportedModelError: A GGUF file's tokenizer is of a kind that is not known here.
        """
        gguf = find_gguf(path)
        return cls._of_folder(path) if gguf is None else cls._of_gguf(split_paths(gguf)[0])

    @classmethod
    def _of_gguf(cls, file: Path) -> ChatTokenizer:
        """The tokenizer in a GGUF file's metadata."""
        metadata = read_gguf_header(file).metadata
        if is_converted(file, metadata) and (file.parent / TOKENIZER).is_file():
            return cls._of_folder(file.parent)
        found = tokenizer_from_metadata(metadata)
        source = found.chat_template or _default_template(found.tokenizer, _gguf_family(metadata))
        return cls(found.tokenizer, ChatTemplate(source, found.specials), found.eos_ids, found.bos_id)

    @classmethod
    def _of_folder(cls, folder: Path) -> ChatTokenizer:
        """The tokenizer of tokenizer.json and the files beside it."""
        settings = _read_json(folder / SETTINGS)
        config = _read_json(folder / "config.json")
        tokenizer = _read_tokenizer(folder)
        specials = read_special_tokens(folder)
        _add_missing_tokens(tokenizer, settings, specials)
        source = read_chat_template(folder) or _default_template(tokenizer, config.get("model_type"))
        return cls(
            tokenizer,
            ChatTemplate(source, specials),
            _eos_ids(tokenizer, specials, _read_json(folder / "generation_config.json"), config),
            _bos_id(tokenizer, specials),
        )

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that this tokenizer knows; the model's own table may be padded beyond."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of a raw text.

        Args:
            text: Any text; special tokens written out in it are taken as such.
            bos: Begin with the model's start token, if it was trained with one.
        """
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return [self._bos_id, *ids] if bos and self._bos_id is not None else ids

    def encode_chat(
        self, messages: Sequence[ChatMessage | Mapping[str, str]], *, continue_reply: bool = False
    ) -> list[int]:
        """Ids of a conversation, up to where the reply begins; the template places the special tokens.

        Args:
            messages: `ChatMessage`s, or mappings with role and content.
            continue_reply: The last message is a reply that goes on: the ids end where its text does.

        Raises:
            ConfigurationError: There is no message, or the template refuses the conversation.
            CheckpointError: The template fails or passes a limit.
        """
        render = self.render_open_reply if continue_reply else self.render_chat
        return self.encode(render(messages), bos=False)

    def render_chat(self, messages: Sequence[ChatMessage | Mapping[str, str]]) -> str:
        """The prompt's text of a conversation; errors as in `encode_chat`."""
        return self._render([_as_mapping(message) for message in messages], opens_reply=True)

    def render_open_reply(self, messages: Sequence[ChatMessage | Mapping[str, str]]) -> str:
        """The prompt's text of a conversation whose last message, a reply, goes on; errors as in `encode_chat`.

        The reply is rendered as any other and cut off after its text. A template that changes the text itself, e.g.
        leaves out what a model thought, or refuses it (gpt-oss's channels), is asked for the opening of a reply
        instead, and the text put after it.
        """
        chat = [_as_mapping(message) for message in messages]
        if not chat or chat[-1].get("role") != "assistant":
            raise ConfigurationError(
                say("The conversation does not end with a reply."), say("Write a message instead.")
            )
        text = chat[-1].get("content", "")
        core = text.strip()
        try:
            whole = self._render(chat, opens_reply=False)
        except ConfigurationError:
            whole = ""
        place = whole.rfind(core) if core else -1
        if place < 0:
            return self._render(chat[:-1], opens_reply=True) + text
        return whole[: place + len(core)] + text[len(text.rstrip()) :]

    def _render(self, chat: list[dict[str, str]], *, opens_reply: bool) -> str:
        if not chat:
            raise ConfigurationError(say("The conversation is empty."), say("Write a message first."))
        try:
            return self._template.render(chat, opens_reply=opens_reply)
        except ConfigurationError:
            folded = _fold_system(chat)
            if folded is None:
                raise
            return self._template.render(folded, opens_reply=opens_reply)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def as_json(self) -> str:
        """The tokenizer in the form of a tokenizer.json, whatever it was read from."""
        parts = json.loads(self._tokenizer.to_str())
        model = parts["model"]
        if "merges" in model:  # those of a GGUF file's pieces may name a byte token by its character
            model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
        return json.dumps(parts)

    def decoder(self, before: Sequence[int] = ()) -> TokenStream:
        """A new stream that turns one reply's tokens into text; `before` as in `TokenStream`."""
        return TokenStream(self._tokenizer, before)


# ---- reading the folder's files -------------------------------------------------------------------------------------


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Name -> text of `bos_token`, `eos_token` and their like, as the files of a folder have them."""
    return _special_tokens(_read_json(folder / SETTINGS), _read_json(folder / "special_tokens_map.json"))


def read_chat_template(folder: Path) -> str | None:
    """The chat template that a model was published with; None where it has none."""
    return _template_source(folder, _read_json(folder / SETTINGS))


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing."""
    return read_json_object(path, MAX_SETTINGS_BYTES) if path.exists() else {}


def _read_text(path: Path, max_bytes: int) -> str:
    """A text file of bounded size."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise _damaged(
                path, say("is {size} bytes long, over the limit of {max_bytes}", size=size, max_bytes=max_bytes)
            )
        content = bytearray(size)
        fill(file, path, 0, memoryview(content))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, say("is not UTF-8 text")) from error


def _read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, never cutting or padding."""
    check_tokenizer(folder)
    path = folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_str(_show_channels(_read_text(path, MAX_TOKENIZER_BYTES)))
    except BaseException as error:
        if not _comes_from_tokenizers(error):
            raise
        raise _damaged(path, say("is not a tokenizer: {error}", error=quote(str(error)))) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _show_channels(content: str) -> str:
    """A tokenizer.json that shows the tokens which tell the parts of gpt-oss's replies apart, as a GGUF file does."""
    channels = all(f'"{token}"' in content for token in _CHANNEL_SIGNS)
    return _CHANNEL_TOKENS.sub(r"\1false", content) if channels else content


def _comes_from_tokenizers(error: BaseException) -> bool:
    """Whether Rust raised it: the library raises bare `Exception`s, and panics that derive from BaseException."""
    return type(error) is Exception or type(error).__name__ == "PanicException"


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(say("{file} {what}.", file=quote(path.name), what=what), DOWNLOAD_AGAIN)


def _special_tokens(settings: Mapping[str, Any], fallback: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of `bos_token`, `eos_token` and their like."""
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    found = {name: _token_text(settings.get(name, fallback.get(name))) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _token_text(value: object) -> str | None:
    """The text of a token that is written as a string or as an `AddedToken`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _add_missing_tokens(tokenizer: Tokenizer, settings: Mapping[str, Any], specials: Mapping[str, str]) -> None:
    """Add tokens that only tokenizer_config.json knows, in the order of their ids, as transformers does."""
    decoder = settings.get("added_tokens_decoder")
    entries = decoder if isinstance(decoder, Mapping) else {}
    numbered = sorted((int(key), entry) for key, entry in entries.items() if key.isdecimal() and len(key) < 10)
    wanted = {text: bool(_flag(entry, "special")) for _, entry in numbered if (text := _token_text(entry))}
    wanted.update(dict.fromkeys(specials.values(), True))
    for text, special in wanted.items():
        if tokenizer.token_to_id(text) is None:
            tokenizer.add_tokens([AddedToken(text, special=special, normalized=False)])


def _flag(entry: object, name: str) -> object:
    return entry.get(name) if isinstance(entry, Mapping) else None


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: its own file first, then the configuration's, a text or a list of named ones."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _read_text(path, MAX_SETTINGS_BYTES)
    entry = settings.get("chat_template")
    if isinstance(entry, list):
        named = {item.get("name"): item.get("template") for item in entry if isinstance(item, Mapping)}
        entry = named.get("default", next(iter(named.values()), None))
    if entry is not None and not isinstance(entry, str):
        raise _damaged(folder / SETTINGS, say("has a chat_template that is no text"))
    return entry


def _default_template(tokenizer: Tokenizer, family: object) -> str:
    """The template of a model that comes without one; see the module's docstring."""
    if tokenizer.token_to_id("<|im_start|>") is not None and tokenizer.token_to_id("<|im_end|>") is not None:
        return CHATML_TEMPLATE
    return MISTRAL_TEMPLATE if family in ("mixtral", "mistral") else PLAIN_TEMPLATE


def _eos_ids(
    tokenizer: Tokenizer, specials: Mapping[str, str], generation: Mapping[str, Any], config: Mapping[str, Any]
) -> frozenset[int]:
    """Every id that any of the three files says ends a text."""
    ids = {*_as_ids(generation.get("eos_token_id")), *_as_ids(config.get("eos_token_id"))}
    named = tokenizer.token_to_id(specials["eos_token"]) if "eos_token" in specials else None
    return frozenset(ids if named is None else {*ids, named})


def _as_ids(value: object) -> Iterable[int]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool) and item >= 0]


def _bos_id(tokenizer: Tokenizer, specials: Mapping[str, str]) -> int | None:
    """The start token of a raw prompt if tokenizer.json puts one; `add_bos_token` is ignored, as by transformers."""
    bos_id = tokenizer.token_to_id(specials["bos_token"]) if "bos_token" in specials else None
    return bos_id if bos_id in tokenizer.encode("", add_special_tokens=True).ids[:1] else None


# ---- GGUF files -----------------------------------------------------------------------------------------------------


def _gguf_family(metadata: Mapping[str, Any]) -> str | None:
    """What config.json would call the family; a GGUF file calls Mixtral a llama with experts."""
    llama = metadata.get("general.architecture") == "llama" and metadata.get("tokenizer.ggml.model") == "llama"
    return "mixtral" if llama and metadata.get("llama.expert_count") else None


# ---- messages -------------------------------------------------------------------------------------------------------


def _as_mapping(message: ChatMessage | Mapping[str, str]) -> dict[str, str]:
    if isinstance(message, ChatMessage):
        return {"role": message.role, "content": message.content}
    return dict(message)


def _fold_system(chat: Sequence[dict[str, str]]) -> list[dict[str, str]] | None:
    """The conversation with its system texts at the head of the first user message; None where that is impossible."""
    system = "\n\n".join(message["content"] for message in chat if message["role"] == "system")
    others = [dict(message) for message in chat if message["role"] != "system"]
    first = next((message for message in others if message["role"] == "user"), None)
    if len(others) == len(chat) or first is None:
        return None
    first["content"] = f"{system}\n\n{first['content']}"
    return others

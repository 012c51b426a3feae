"""How a GGUF file's text is cut into words before byte pairs are merged, by the name that the file gives.

A file names its cutting (`tokenizer.ggml.pre`) and does not describe it, so the patterns are llama.cpp's
(src/llama-vocab.cpp, `llm_tokenizer_bpe`): the same file then gives the same ids, also where llama.cpp's pattern is an
approximation of what the model was trained with (capitals beyond A to Z with `gpt-4o` and `tekken`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from engine.checkpoint.untrusted import quote
from engine.errors import UnsupportedModelError
from engine.sentences import say

_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKED_WORD = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+"
_UPPER, _LOWER = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|" + _SIGNS + r"|\s+(?!\S)|\s+"
_LLAMA3 = f"{_CONTRACTIONS}|{_WORD}" + r"|\p{N}{1,3}|" + _SIGNS + r"[\r\n]*|" + _SPACES
_QWEN2 = f"{_CONTRACTIONS}|{_WORD}" + r"|\p{N}|" + _SIGNS + r"[\r\n]*|" + _SPACES
_QWEN35 = f"{_CONTRACTIONS}|{_MARKED_WORD}" + r"|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _SPACES
_MINICPM5 = f"{_CONTRACTIONS}|{_WORD}" + r"|\p{N}+|" + _SIGNS + r"[\r\n]*|" + _SPACES
_SEED_CODER = f"{_CONTRACTIONS}|{_WORD}" + r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|" + _SPACES
_BAILING = (
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" + _WORD + r"|\p{N}|" + _SIGNS + r"[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_EXAONE_MOE = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|"
    + _SIGNS
    + r"[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_CASED = (
    r"[^\r\n\p{L}\p{N}]?" + f"{_UPPER}*{_LOWER}+",
    r"[^\r\n\p{L}\p{N}]?" + f"{_UPPER}+{_LOWER}*",
)
_TEKKEN = "|".join(_CASED) + r"|\p{N}|" + _SIGNS + r"[\r\n/]*|" + _SPACES
_GPT4O = "|".join(f"{word}{_CONTRACTIONS}?" for word in _CASED) + r"|\p{N}{1,3}|" + _SIGNS + r"[\r\n/]*|" + _SPACES
# By code points, since many look alike. The classes below leave out white space, which llama.cpp masks beforehand.
_SENTENCE_WORD = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_IDEOGRAPHS = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff&&\\S]+"
_PUNCTUATION = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001-\u3002]+"
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)

_DEEPSEEK_LLM = ("[\r\n]", f"\\s?[{_DEEPSEEK_LETTERS}]+", _PUNCTUATION, r"\s+\z", _IDEOGRAPHS, r"\p{N}+")
_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _IDEOGRAPHS, r"\p{N}")
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
    + _SPACES,
)


@dataclass(frozen=True, slots=True)
class WordSplit:
    """One way to cut text into words.

    Attributes:
        patterns: Each cuts what the one before left: its matches become words, and so does what lies between.
        ignore_merges: A word that is a token stays whole, whether or not merges lead to it.
        add_bos: A raw prompt begins with the start token unless the file says otherwise.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        """The same for the `tokenizers` library; words come out as byte-level characters."""
        splits: list[PreTokenizer] = [Split(Regex(pattern), "isolated") for pattern in self.patterns]
        return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])


def _table(*groups: tuple[str, WordSplit]) -> Mapping[str, WordSplit]:
    return MappingProxyType({name: split for names, split in groups for name in names.split()})


DEFAULT = "default"
WORD_SPLITS: Mapping[str, WordSplit] = _table(
    (DEFAULT, WordSplit((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))),
    (
        "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum",
        WordSplit((_GPT2,)),
    ),
    (
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
        WordSplit((r"\p{N}", _GPT2)),
    ),
    ("falcon", WordSplit((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"))),
    (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
        WordSplit((_LLAMA3,), ignore_merges=True, add_bos=True),
    ),
    ("dbrx smaug-bpe chatglm-bpe", WordSplit((_LLAMA3,))),
    ("glm4 glm5", WordSplit((_LLAMA3,), ignore_merges=True)),
    (
        "qwen2 deepseek-r1-qwen kormo megrez stablelm2 hunyuan solar-open grok-2",
        WordSplit((_QWEN2,)),
    ),
    ("qwen35", WordSplit((_QWEN35,))),
    ("laguna", WordSplit((r"[^\n]+|\n+", _QWEN2))),
    ("minicpm5", WordSplit((r"\p{N}{1,3}", _MINICPM5), ignore_merges=True)),
    ("seed-coder", WordSplit((_SEED_CODER,))),
    ("bailingmoe bailingmoe2 llada-moe", WordSplit((_BAILING,))),
    ("exaone-moe", WordSplit((_EXAONE_MOE,))),
    ("tekken", WordSplit((_TEKKEN,), ignore_merges=True, add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", WordSplit((_GPT4O,))),
    ("deepseek-llm", WordSplit(_DEEPSEEK_LLM)),
    ("deepseek-coder", WordSplit(_DEEPSEEK_CODER)),
    ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", WordSplit(_DEEPSEEK3)),
    ("poro-chat bloom gpt3-finnish", WordSplit((_SENTENCE_WORD,))),
    ("viking", WordSplit((_SENTENCE_WORD, r"\p{N}"))),
)


def find_word_split(name: str) -> WordSplit:
    """The way to cut that a file names.

    Raises:
        UnsupportedModelError: No such name is known here.
    """
    split = WORD_SPLITS.get(name)
    if split is None:
        raise UnsupportedModelError(
            say("The GGUF file's pre-tokenizer {name} is not supported.", name=quote(name)),
            say("Choose the safetensors version of the model, which brings its own tokenizer.json."),
        )
    return split

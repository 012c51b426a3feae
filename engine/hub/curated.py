"""A few models that suit this program, where to get them, how large they are, roughly, and of what shape.

Sizes and commits come from the hub when a model is looked up; an entry that is not true any more ends in one sentence.
Shapes are those of the models' own config.json: what a model would do here can be told before anything is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine.checkpoint.gguf_model import stem
from engine.checkpoint.mixed import with_mix
from engine.checkpoint.model_config import config_from
from engine.checkpoint.untrusted import quote
from engine.errors import NotOnHubError
from engine.hub.repository import Choice, Repository, choices
from engine.sentences import say

if TYPE_CHECKING:
    from engine.config import ModelConfig


@dataclass(frozen=True)
class CuratedModel:
    """A model to begin with.

    Attributes:
        name: What people call it.
        repo_id: Where it is.
        pattern: Which of its files, with `*`; compared without regard to case and to the numbers of a split.
        family: As in `engine.checkpoint.families`.
        about_bytes: Its size, roughly: for the list, before the hub is asked.
        licence: As its publisher states it.
        sentence: What it is good for.
        mix: The mix of formats in that file, a key of `engine.quant.mixes.MIXES`.
        published: What its config.json says of its shape; empty where that is not known for sure.
    """

    name: str
    repo_id: str
    pattern: str
    family: str
    about_bytes: int
    licence: str
    sentence: str
    mix: str = "Q4_K_M"
    published: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @cached_property
    def shape(self) -> ModelConfig | None:
        """What its file will say of it; None where that is not known."""
        if not self.published:
            return None
        return with_mix(config_from({"model_type": self.family, **self.published}, self.name), self.mix)


CURATED = (
    CuratedModel(
        name="Granite 3.1 3B A800M Instruct",
        repo_id="bartowski/granite-3.1-3b-a800m-instruct-GGUF",
        pattern="*Q4_K_M.gguf",
        family="granitemoe",
        about_bytes=2_020_000_000,
        licence="apache-2.0",
        sentence=say("The smallest one here: answers fast on any machine, and knows little."),
        published={
            "hidden_size": 1536, "intermediate_size": 512, "num_hidden_layers": 32, "num_attention_heads": 24,
            "num_key_value_heads": 8, "num_local_experts": 40, "num_experts_per_tok": 8, "vocab_size": 49155,
            "max_position_embeddings": 131072, "tie_word_embeddings": True, "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22, "attention_multiplier": 0.015625, "logits_scaling": 6.0,
        },
    ),
    CuratedModel(
        name="OLMoE 1B-7B Instruct",
        repo_id="allenai/OLMoE-1B-7B-0924-Instruct-GGUF",
        pattern="*q4_k_m.gguf",
        family="olmoe",
        about_bytes=4_210_000_000,
        licence="apache-2.0",
        sentence=say("Small and fully open, its training data too; 64 experts in each layer make a lively map."),
        published={
            "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
            "num_key_value_heads": 16, "num_experts": 64, "num_experts_per_tok": 8, "vocab_size": 50304,
            "max_position_embeddings": 4096,
        },
    ),
    CuratedModel(
        name="gpt-oss 20B",
        repo_id="ggml-org/gpt-oss-20b-GGUF",
        pattern="*mxfp4.gguf",
        family="gpt_oss",
        about_bytes=12_110_000_000,
        licence="apache-2.0",
        sentence=say("OpenAI's open model: thinks before it answers, in the 4 bits that it was trained in."),
        mix="MXFP4",
        published={
            "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4,
            "vocab_size": 201088, "max_position_embeddings": 131072, "sliding_window": 128,
        },
    ),
    CuratedModel(
        name="Qwen3 30B A3B Instruct 2507",
        repo_id="unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF",
        pattern="*2507-Q4_K_M.gguf",
        family="qwen3_moe",
        about_bytes=18_560_000_000,
        licence="apache-2.0",
        sentence=say("Strong in many languages and fast: 3 of its 30 billion weights work on each token."),
        published={
            "hidden_size": 2048, "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32,
            "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
            "vocab_size": 151936, "max_position_embeddings": 262144, "norm_topk_prob": True,
        },
    ),
    CuratedModel(
        name="Phi-3.5-MoE Instruct",
        repo_id="bartowski/Phi-3.5-MoE-instruct-GGUF",
        pattern="*Q4_K_M.gguf",
        family="phimoe",
        about_bytes=25_350_000_000,
        licence="mit",
        sentence=say("Microsoft's mixture of 16 experts; good at reasoning and at summing up long texts."),
        published={
            "hidden_size": 4096, "intermediate_size": 6400, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2, "vocab_size": 32064,
            "max_position_embeddings": 131072, "attention_bias": True, "lm_head_bias": True,
        },
    ),
    CuratedModel(
        name="Mixtral 8x7B Instruct",
        repo_id="mradermacher/Mixtral-8x7B-Instruct-v0.1-GGUF",
        pattern="*Q4_K_M.gguf",
        family="mixtral",
        about_bytes=28_450_000_000,
        licence="apache-2.0",
        sentence=say("What Fiddler was built for: 8 large experts, at home in five European languages."),
        published={
            "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
            "max_position_embeddings": 32768,
        },
    ),
    CuratedModel(
        name="Qwen2 57B A14B Instruct",
        repo_id="Qwen/Qwen2-57B-A14B-Instruct-GGUF",
        pattern="*q4_k_m.gguf",
        family="qwen2_moe",
        about_bytes=34_850_000_000,
        licence="apache-2.0",
        sentence=say("The largest one here: for 48 GB of RAM or more."),
        published={
            "hidden_size": 3584, "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "num_experts": 64,
            "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 32768,
        },
    ),
)  # fmt: skip


def curated_choice(model: CuratedModel, repository: Repository) -> Choice:
    """The choice of a repository that an entry means.

    Raises:
        NotOnHubError: The repository has it no more.
        RooftopError: The repository offers nothing.
    """
    return meant_choice(model, choices(repository))


def meant_choice(model: CuratedModel, offered: Iterable[Choice]) -> Choice:
    """The same of what its repository is known to offer.

    Raises:
        NotOnHubError: The repository has it no more.
    """
    pattern = model.pattern.lower()
    names = {f"{stem(choice.files[0].name)}.gguf": choice for choice in offered if choice.format == "GGUF"}
    found = [choice for name, choice in names.items() if fnmatchcase(name.lower(), pattern)]
    if not found:
        raise NotOnHubError(
            say(
                "{repo_id} has no file {pattern} any more.",
                repo_id=quote(model.repo_id),
                pattern=quote(model.pattern),
            ),
            say("Choose one of its other files, or search for the model."),
        )
    return found[0]

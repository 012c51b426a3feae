"""The bundled guide: its files, that transformers runs it, what it answers, and the corpus behind it."""

import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from resources.guide_training import corpus, dialogues, judge, network, vocabulary
from resources.guide_training.evaluate import Guide, ask_all

FOLDER = Path(__file__).parents[2] / "resources" / "guide"
SAMPLE = 24


@pytest.fixture(scope="module")
def texts() -> corpus.Corpus:
    return corpus.load()


@pytest.fixture(scope="module")
def guide() -> Iterator[Guide]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Guide(FOLDER)
    torch.set_num_threads(threads)


def _json(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return data


def _tensors() -> dict[str, torch.Tensor]:
    tensors = {}
    for path in sorted(FOLDER.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return tensors


def test_folder_is_small_and_complete() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 25_000_000
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "MODEL_CARD.md"):
        assert (FOLDER / name).is_file()


def test_config_is_the_one_that_training_uses() -> None:
    config = _json("config.json")
    assert config == network.CONFIG
    assert config["architectures"] == ["MixtralForCausalLM"]
    assert config["num_hidden_layers"] >= 6
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (8, 2)


def test_tensors_have_mixtrals_names_and_shapes() -> None:
    tensors, config = _tensors(), _json("config.json")
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    prefix = "model.layers.5.block_sparse_moe."
    assert tensors[prefix + "gate.weight"].shape == (8, hidden)
    assert tensors[prefix + "experts.7.w1.weight"].shape == (inner, hidden)
    assert tensors[prefix + "experts.7.w2.weight"].shape == (hidden, inner)
    assert tensors[prefix + "experts.7.w3.weight"].shape == (inner, hidden)
    assert tensors["lm_head.weight"].shape == (config["vocab_size"], hidden)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_index_names_the_shard_of_every_tensor() -> None:
    weight_map = _json("model.safetensors.index.json")["weight_map"]
    for path in FOLDER.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert all(weight_map[name] == path.name for name in file.keys())  # noqa: SIM118
    assert set(weight_map) == set(_tensors())


def test_saved_model_gives_the_logits_of_the_model_in_memory(tmp_path: Path) -> None:
    model = network.build(seed=3)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    network.save_model(model, tmp_path)
    vocabulary.save_tokenizer(vocabulary.train_tokenizer(corpus.load()), tmp_path)
    ids = torch.arange(6, 306)[None]
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        found = Guide(tmp_path).model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_tokenizer_round_trip_and_chat_template_match_training(guide: Guide) -> None:
    text = "Grüße, 3 experts of `Mixtral`?\nYes: 4.2 ms \N{SLIGHTLY SMILING FACE}"
    assert guide.tokenizer.decode(guide.tokenizer.encode(text, add_special_tokens=False)) == text
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "what is vram?"}]  # fmt: skip
    ids = guide.tokenizer.apply_chat_template(chat, return_dict=False, add_generation_prompt=True)
    expected = vocabulary.encode_dialogue(guide.tokenizer.backend_tokenizer, chat).ids
    assert ids == [*expected, vocabulary.SPECIAL_TOKENS.index("<|assistant|>")]


def test_chat_template_refuses_unknown_roles(guide: Guide) -> None:
    with pytest.raises(Exception, match="unknown role tool"):
        guide.tokenizer.apply_chat_template([{"role": "tool", "content": "x"}])


@pytest.mark.parametrize("question", ["What is an expert?", "what is an expert", "wots an expert", "experts?"])
def test_explains_experts(guide: Guide, texts: corpus.Corpus, question: str) -> None:
    replies = ask_all(guide, [corpus.Question(question, "expert", "expert")], [[]], texts)
    assert replies[0].verdict.on_topic, replies[0].text


def test_answers_held_out_questions_and_uses_all_experts(guide: Guide, texts: corpus.Corpus) -> None:
    questions = random.Random(5).sample(texts.held_out, SAMPLE)
    replies = ask_all(guide, questions, [[] for _ in questions], texts)
    misses = [(reply.question.text, reply.text) for reply in replies if not reply.verdict.on_topic]
    assert len(misses) <= SAMPLE // 5, misses
    shares = guide.expert_shares([reply.token_ids for reply in replies])
    assert shares.min() >= 0.01


def test_report_is_up_to_date_and_good_enough(texts: corpus.Corpus) -> None:
    report = _json("evaluation.json")
    assert report["held_out_phrasings"] == len(texts.held_out)
    assert report["all_phrasings"] == sum(len(topic.asks) for topic in texts.topics) >= 2500
    assert report["on_topic_share"] >= 0.85
    assert min(report["min_expert_share_by_layer"]) >= 0.02


def test_every_topic_has_answers_and_phrasings(texts: corpus.Corpus) -> None:
    for topic in texts.topics:
        assert len(topic.answers) >= 2, topic.name
        assert len(topic.asks) >= 5, topic.subject


def test_fifth_of_the_phrasings_is_held_out(texts: corpus.Corpus) -> None:
    total = sum(len(topic.asks) for topic in texts.topics)
    assert 0.18 <= len(texts.held_out) / total <= 0.24
    assert corpus.load().held_out == texts.held_out
    for topic in texts.topics:
        unseen = topic.subject in corpus.UNSEEN_SUBJECTS
        assert (not texts.training_asks(topic)) == unseen


def test_training_never_contains_a_held_out_phrasing(texts: corpus.Corpus) -> None:
    sampler = dialogues.Dialogues(texts, random.Random(1))
    for _ in range(2000):
        for message in sampler.sample():
            assert message["role"] != "user" or corpus.normalise(message["content"]) not in texts.held_out_keys


def test_training_never_contains_a_word_of_an_unseen_subject_as_noun(texts: corpus.Corpus) -> None:
    declined = [q for q in texts.held_out if q.subject in corpus.UNSEEN_SUBJECTS]
    words = {word for q in declined for word in corpus.normalise(q.text).split() if len(word) > 3}
    assert not words & {part for word in texts.words for part in corpus.normalise(word).split()}


def test_dialogues_repeat_for_a_seed_and_alternate_roles(texts: corpus.Corpus) -> None:
    first, second = (dialogues.Dialogues(texts, random.Random(9)) for _ in range(2))
    for _ in range(50):
        messages = first.sample()
        assert messages == second.sample()
        roles = [message["role"] for message in messages if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_held_out_offers_no_spelling_of_a_training_question(texts: corpus.Corpus) -> None:
    trained = {corpus.normalise(ask) for topic in texts.topics for ask in texts.training_asks(topic)}
    assert not trained & texts.held_out_keys


def test_parse_reports_a_phrasing_in_two_topics(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("## one\n> A\n- hi\n## two\n> B\n- Hi!\n", encoding="utf-8")
    with pytest.raises(ValueError, match="keep it in one"):
        corpus.load(tmp_path)


def test_parse_reports_a_topic_without_answers(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("## one\n- hi\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no answer"):
        corpus.load(tmp_path)


def test_parse_reports_a_grid_without_topic(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("## one\n> A\n- hi\n", encoding="utf-8")
    (tmp_path / "grids.txt").write_text("## two\n(a|b) c\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no such topics"):
        corpus.load(tmp_path)


def test_grid_stands_for_all_its_combinations() -> None:
    rng = random.Random(0)
    questions = {corpus.expand("(what|who) is (a |)b", rng) for _ in range(100)}
    assert questions == {"what is a b", "what is b", "who is a b", "who is b"}
    assert set(corpus.expansions("(what|who) is (a |)b")) == questions


def test_augmentation_keeps_most_of_the_question() -> None:
    rng = random.Random(2)
    spellings = {dialogues.augment("what is the layer strip?", rng) for _ in range(200)}
    assert len(spellings) > 50
    assert all("strip" in spelling.lower() or "layer" in spelling.lower() for spelling in spellings)


def test_judge_needs_the_right_topic_and_an_ended_reply() -> None:
    answers = {"cat": ["Cats purr and sleep all day."], "dog": ["Dogs bark at every stranger."]}
    assert judge.judge("Cats purr and sleep all day.", "cat", answers, finished=True).on_topic
    assert not judge.judge("Cats purr and sleep all day.", "dog", answers, finished=True).on_topic
    assert not judge.judge("Cats purr and sleep all day.", "cat", answers, finished=False).on_topic
    assert not judge.judge("Cats.", "cat", answers, finished=True).on_topic


def test_tokenizer_is_reproducible(texts: corpus.Corpus) -> None:
    saved = (FOLDER / "tokenizer.json").read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = vocabulary.train_tokenizer(texts)
    assert json.loads(fresh.to_str())["model"]["vocab"] == json.loads(saved)["model"]["vocab"]

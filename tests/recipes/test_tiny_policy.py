"""The tiny policy: its language, its tokenizer, what pre-training may see, and the folder it is built into."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys

import fst_envs
import pytest
from fst_envs.house import language as lang
from fst_envs.star_graph import NO_NUMBERS, NO_TAGS
from tiny_policy import dialect, graphs
from tiny_policy.chats import FIRST_WORDS, Chat, Turn, bare, drill, full

MAKERS = [lambda rng: drill(rng, lang.WORDS[:FIRST_WORDS]), drill, bare, full]


def pairs_in(text: str) -> set[tuple[str, str]]:
    """(word, value) pairs that a text joins: a value within three tokens after a word, before the next word."""
    found, word, distance = set(), None, 0
    values = {value for values in lang.VALUES.values() for value in values}
    for token in lang.tokenize(text):
        distance += 1
        if token in lang.WORDS:
            word, distance = token, 0
        elif token in values and word and distance <= 3:
            found.add((word, token))
    return found


def test_a_fifth_of_all_pairs_is_held_out_and_every_word_has_enough():
    for word in lang.WORDS:
        for values, count in ((lang.VALUES["codes"], 5), (lang.VALUES["places"], 4)):
            assert sum(lang.held_out(word, value) for value in values) == count
    with pytest.raises(ValueError, match="Z9"):
        lang.held_out("invoice", "Z9")


def test_the_detector_of_this_test_sees_pairs():
    assert pairs_in("Write invoice B4. Send goat north.") == {("invoice", "B4"), ("goat", "north")}
    assert pairs_in("invoice [B4] cheers goat *north*") == {("invoice", "B4"), ("goat", "north")}


@pytest.mark.parametrize("make", MAKERS)
def test_pretraining_never_joins_a_held_out_pair(make):
    rng, seen = random.Random(0), set()
    for _ in range(1500):
        chat = make(rng)
        for text in (chat.system, *(turn.answer for turn in chat.turns)):
            seen |= pairs_in(text)
    assert len(seen) > 300
    assert not {pair for pair in seen if lang.held_out(*pair)}


@pytest.mark.parametrize("make", MAKERS)
def test_chats_follow_from_the_seed_and_stay_in_the_vocabulary(make):
    assert [make(random.Random(5)) for _ in range(20)] == [make(random.Random(5)) for _ in range(20)]
    vocabulary, rng = {*dialect.vocabulary(), lang.UNKNOWN}, random.Random(1)
    for _ in range(300):
        chat = make(rng)
        for text in (chat.system, *(t.user for t in chat.turns), *(t.answer for t in chat.turns)):
            assert set(lang.tokenize(text)) <= vocabulary


def test_a_known_answer_is_what_the_system_prompt_says():
    rng = random.Random(2)
    seen = {True: 0, False: 0}
    for _ in range(300):
        chat = full(rng)
        stated = pairs_in(chat.system)
        for turn in chat.turns:
            (pair,) = pairs_in(turn.answer)
            assert (pair in stated) == turn.known
            seen[turn.known] += 1
    assert min(seen.values()) > 100


def test_what_the_environment_and_the_seed_prompt_say_is_in_the_vocabulary():
    vocabulary = set(dialect.vocabulary())
    assert len(vocabulary) == len(dialect.vocabulary())
    texts = [lang.SEED_PROMPT, "Correct."]
    for kind in lang.LOOKUP_KINDS:
        texts += [lang.rule(kind, value, lang.WORDS[0]) for value in lang.VALUES[kind]]
        texts += [
            r.format(w=w)
            for split in ("train", "val", "test")
            for r in lang.requests(kind, split)
            for w in lang.WORDS[:1]
        ]
    texts += [lang.rule("format", form) for form in lang.FORMATS] + [lang.rule("closing", c) for c in lang.CLOSINGS]
    assert {token for text in texts for token in lang.tokenize(text)} <= vocabulary


# --- star graphs


def star_graph():
    kwargs = {"degree": 3, "path_length": graphs.PATH_LENGTH, "max_node": graphs.MAX_NODE}
    return fst_envs.make("fst_envs:fst/StarGraph-v0", **kwargs)


def said(env, text, index):
    env.reset(options={"index": index})
    _, reward, *_, info = env.step(text)
    return reward, info["feedback"]


def known(text):
    return graphs.GRAPHS.ids["<|unk|>"] not in graphs.GRAPHS.encode(text)


def test_a_star_graph_its_answer_and_its_feedback_are_in_the_vocabulary():
    env, told = star_graph(), set()
    assert known(lang.SEED_PROMPT) and not known("a xylophone")
    for index in range(5):
        question, info = env.reset(options={"index": index})
        nodes = sorted({node for edge in env.unwrapped.edges for node in edge})
        walks = [list(walk) for walk in itertools.product(nodes, repeat=3)]
        feedback = [said(env, env.unwrapped.write(walk), index)[1] for walk in walks]
        assert known(question) and known(info["answer"]) and all(known(text) for text in feedback)
        told |= {re.sub("[0-9]+", "0", text) for text in feedback}
    assert len(told) == 4  # right; a wrong start; no such edge; a wrong end, with its first wrong edge


@pytest.mark.parametrize(
    ("tag", "mark", "feedback"),
    [(None, None, NO_TAGS), ("walk", "commas", NO_TAGS), ("path", None, NO_NUMBERS), ("path", "dashes", NO_NUMBERS)],
)
def test_only_the_form_that_both_sentences_tell_is_rewarded(tag, mark, feedback):
    env = star_graph()
    env.reset(options={"index": 0})
    path = env.unwrapped.path
    assert said(env, graphs.answer(path, tag, mark), 0) == (0.0, feedback)
    assert said(env, graphs.answer(path, "path", "commas"), 0)[0] == 1.0
    assert (graphs.tag_rule("path"), graphs.mark_rule("path", "commas")) == (NO_TAGS, NO_NUMBERS)


def test_a_lesson_answers_in_the_form_that_its_system_prompt_tells():
    rng, seen = random.Random(0), set()
    for _ in range(400):
        made = graphs.chat(rng)
        tags = [tag for tag in graphs.TAGS if f"<{tag}>" in made.system]
        marks = [mark for mark in graphs.MARKS if f"separated by {mark}" in made.system]
        assert len(tags) <= 1 and len(marks) <= 1 and known(made.system)
        for turn in made.turns:
            start, goal = map(int, re.search(r"from (\d+) to (\d+)\.$", turn.user).groups())
            (middle,) = re.findall(rf"^(\d+) -> {goal}$", turn.user, re.MULTILINE)
            assert turn.answer == graphs.answer([start, int(middle), goal], *(tags or [None]), *(marks or [None]))
        seen.add((*tags, *marks))
    assert len(seen) == 1 + 3 + 9
    assert not any("<" in graphs.chat(rng, told=False, noise=False).system for _ in range(50))


def test_importing_the_package_imports_no_framework():
    code = "import sys, tiny_policy, fst_envs.house.rules; print({'torch', 'transformers'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


# --- with torch and transformers


@pytest.fixture(scope="module")
def torch():
    """torch, with the measurement after each build cut down to one task."""
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from tiny_policy import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "TASKS", {"codes": ("codes",)})
        yield torch


@pytest.fixture(scope="module")
def built(torch, tmp_path_factory):
    from tiny_policy import build

    folder = tmp_path_factory.mktemp("policies") / "policy"
    return folder, build(folder, steps=4, threads=1)


def load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_the_folder_loads_and_the_vocabularies_agree(built):
    model, tokenizer = load(built[0])
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(dialect.vocabulary())}
    assert (
        model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    )
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.hidden_size // model.config.num_attention_heads == 32


@pytest.mark.parametrize(
    ("form", "closing"), [(None, None), ("brackets", None), ("quotes", "cheers"), ("stars", "over")]
)
def test_text_survives_the_tokenizer(built, form, closing):
    _, tokenizer = load(built[0])
    gold = lang.answer("invoice", "B4", form, closing)
    ids = tokenizer.encode(gold, add_special_tokens=False)
    decoded = tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True)
    assert lang.tokenize(decoded) == lang.tokenize(gold)


def test_an_unknown_word_becomes_unk_and_special_tokens_are_single(built):
    _, tokenizer = load(built[0])
    ids = tokenizer.encode("Write invoice xylophone 🙂 B4.", add_special_tokens=False)
    assert ids.count(tokenizer.unk_token_id) == 2
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False) == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "system", ["You are a helpful assistant.", "You are a helpful assistant.\nWrite invoice B4.\nxyz"]
)
def test_the_chat_template_gives_what_pretraining_saw(built, system):
    from tiny_policy import train

    _, tokenizer = load(built[0])
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "please file the invoice now"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    batch = train.pack([Chat(system, (Turn("please file the invoice now", "invoice B4", "codes"),))])
    answer = [*dialect.RULES.encode("invoice B4"), tokenizer.eos_token_id]
    assert batch.ids[0].tolist() == [*ids, *answer]
    assert batch.positions[0].tolist() == list(range(len(ids) + 3))


def test_packed_requests_read_as_chats_of_their_own(built, torch):
    from tiny_policy import train

    model, _ = load(built[0])
    turns = (Turn("file the invoice", "invoice B4", "codes"), Turn("where is the goat", "goat north", "places"))
    system = "You are a helpful assistant. Write invoice B4. Send goat north."
    with torch.no_grad():
        together, _ = train.answer_log_probs(model, train.pack([Chat(system, turns)]))
        alone = [train.answer_log_probs(model, train.pack([Chat(system, (turn,))]))[0] for turn in turns]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_the_report_is_in_the_folder(built):
    folder, report = built
    marker = json.loads((folder / "tiny_policy.json").read_text())
    assert marker["digest"] == report.digest and marker["steps"] == report.steps == 4
    assert report.parameters == sum(p.numel() for p in load(folder)[0].parameters())
    for task in report.accuracy.values():
        assert set(task) == {"0", "1", "6", "12"}
        assert all(0 <= cell[how] <= 1 for cell in task.values() for how in ("sampled", "greedy"))
    assert report.digest in str(report)


def test_the_same_settings_are_found_others_are_built(built, torch):
    from tiny_policy import build

    folder, first = built
    weights = (folder / "model.safetensors").read_bytes()
    calls: list[int] = []
    again = build(folder, steps=4, threads=1, progress=lambda step, *_: calls.append(step))
    assert again.cached and not calls and again.digest == first.digest and not first.cached
    other = build(folder.with_name("other"), steps=4, threads=1, seed=1)
    assert other.digest != first.digest
    assert (folder.with_name("other") / "model.safetensors").read_bytes() != weights
    forced = build(folder, steps=4, threads=1, force=True, progress=lambda step, *_: calls.append(step))
    assert calls == [4] and not forced.cached
    assert (folder / "model.safetensors").read_bytes() == weights, "the same recipe and seed give the same weights"
    assert {path.name for path in folder.parent.iterdir()} == {"policy", "other"}


def test_a_crash_leaves_no_half_folder(tmp_path, torch):
    from tiny_policy import build

    def crash(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "policy", steps=2, threads=1, progress=crash)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path, torch):
    from tiny_policy import build

    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no tiny policy"):
        build(tmp_path, steps=1)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_command_tells_what_cannot_be_built(tmp_path, torch):
    from typer.testing import CliRunner

    from fst_plugin.cli import app

    (tmp_path / "thesis.txt").write_text("years of work")
    for arguments, text in ((["--reads", "letters"], "use one of rules, graphs"), ([], "holds no tiny policy")):
        result = CliRunner().invoke(app, ["tiny-policy", str(tmp_path), *arguments], env={"COLUMNS": "200"})
        assert result.exit_code == 1 and text in result.output


def test_building_leaves_the_callers_torch_as_it_was(tmp_path, torch):
    from tiny_policy import build

    threads = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build(tmp_path / "policy", steps=1, threads=1)
    assert torch.equal(torch.rand(2), expected) and torch.get_num_threads() == threads


def test_a_policy_that_reads_graphs_is_another_one(built, torch):
    from tiny_policy import build

    folder, rules = built
    report = build(folder.with_name("graphs"), reads="graphs", steps=2)
    model, tokenizer = load(folder.with_name("graphs"))
    assert report.digest != rules.digest and model.config.vocab_size == len(tokenizer) == len(graphs.GRAPHS.vocabulary)
    assert set(report.accuracy) == {"degree 2", "degree 3", "degree 4"}
    text = graphs.answer([3, 7, 1], "path", "commas")
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == graphs.GRAPHS.encode(text) and tokenizer.decode(ids) == text
    with pytest.raises(ValueError, match="reads='letters'.*rules, graphs"):
        build(folder, reads="letters")


def test_training_lowers_the_loss(torch):
    from tiny_policy import train
    from tiny_policy.model import Shape, make_model

    losses: list[float] = []
    recipe = train.Recipe(steps=50, chats=4, drills=0.0, bare=1.0)
    train.pretrain(make_model(Shape(), 0), recipe, 0, lambda step, steps, figures: losses.append(figures["loss"]))
    assert losses[-1] < 0.8 * losses[0] < 0.8 * 6.0

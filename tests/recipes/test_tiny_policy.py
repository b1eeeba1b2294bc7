"""The tiny policy's recipe: language, tokenizer, what pre-training may see, and the folder it is trained into."""

from __future__ import annotations

import functools
import itertools
import random
import re
import subprocess
import sys

import fst_envs
import pytest
from fst_envs.house import language as lang
from fst_envs.house import policy
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
    """torch on one thread, with the measurement after each build cut down to one task."""
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from tiny_policy import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "TASKS", {"codes": ("codes",)})
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a second one costs far more than it brings while other tests run
        yield torch
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shipped(torch):
    """(model, tokenizer) of the policy that reads house rules, as shipped."""
    return load(policy.path("rules"))


@pytest.fixture(scope="module")
def built(torch, tmp_path_factory):
    """(folder, card) of a policy after four steps."""
    from tiny_policy import build

    folder = tmp_path_factory.mktemp("policies") / "policy"
    return folder, build(folder, steps=4, threads=1)


def load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_the_folder_loads_and_the_vocabularies_agree(shipped):
    model, tokenizer = shipped
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
def test_text_survives_the_tokenizer(shipped, form, closing):
    _, tokenizer = shipped
    gold = lang.answer("invoice", "B4", form, closing)
    ids = tokenizer.encode(gold, add_special_tokens=False)
    decoded = tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True)
    assert lang.tokenize(decoded) == lang.tokenize(gold)


def test_an_unknown_word_becomes_unk_and_special_tokens_are_single(shipped):
    _, tokenizer = shipped
    ids = tokenizer.encode("Write invoice xylophone 🙂 B4.", add_special_tokens=False)
    assert ids.count(tokenizer.unk_token_id) == 2
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False) == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "system", ["You are a helpful assistant.", "You are a helpful assistant.\nWrite invoice B4.\nxyz"]
)
def test_the_chat_template_gives_what_pretraining_saw(shipped, system):
    from tiny_policy import train

    _, tokenizer = shipped
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "please file the invoice now"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    batch = train.pack([Chat(system, (Turn("please file the invoice now", "invoice B4", "codes"),))])
    answer = [*dialect.RULES.encode("invoice B4"), tokenizer.eos_token_id]
    assert batch.ids[0].tolist() == [*ids, *answer]
    assert batch.positions[0].tolist() == list(range(len(ids) + 3))


def test_packed_requests_read_as_chats_of_their_own(shipped, torch):
    from tiny_policy import train

    model, _ = shipped
    turns = (Turn("file the invoice", "invoice B4", "codes"), Turn("where is the goat", "goat north", "places"))
    system = "You are a helpful assistant. Write invoice B4. Send goat north."
    with torch.no_grad():
        together, _ = train.answer_log_probs(model, train.pack([Chat(system, turns)]))
        alone = [train.answer_log_probs(model, train.pack([Chat(system, (turn,))]))[0] for turn in turns]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_the_card_in_the_folder_fits_it(built):
    folder, card = built
    assert policy.card(folder) == card and card["made"]["steps"] == 4 and card["reads"] == "rules"
    assert card["parameters"] == sum(p.numel() for p in load(folder)[0].parameters())
    for task in card["accuracy"].values():
        assert set(task) == {"0", "1", "6", "12"}
        assert all(0 <= cell[how] <= 1 for cell in task.values() for how in ("sampled", "greedy"))
    policy.verify(folder)
    assert set(card["sha256"]) == {path.name for path in folder.iterdir()} - {policy.CARD_FILE}


def test_the_same_seed_gives_the_same_weights_and_another_one_others(built, torch):
    from tiny_policy import build

    folder, first = built
    again = build(folder.with_name("again"), steps=4, threads=1)
    other = build(folder.with_name("other"), steps=4, threads=1, seed=1)
    assert again["sha256"] == first["sha256"]
    changed = {name for name, digest in other["sha256"].items() if digest != first["sha256"][name]}
    assert changed == {"model.safetensors"}


def test_no_folder_is_overwritten(tmp_path, torch):
    from tiny_policy.__main__ import main

    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="is not empty: name another folder"):
        main([str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_crashes_leaves_no_card(tmp_path, torch):
    from tiny_policy import build

    def crash(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "policy", steps=2, threads=1, progress=crash)
    with pytest.raises(ValueError, match=r"card\.json is missing"):
        policy.verify(tmp_path / "policy")


def test_the_command_prints_the_table(tmp_path, torch, capsys, monkeypatch):
    from tiny_policy import __main__ as command

    short = functools.partial(command.build, steps=2)
    monkeypatch.setattr(command, "build", short)
    command.main([str(tmp_path / "policy"), "--seed", "3"])
    out, progress = capsys.readouterr()
    assert "2 steps of pre-training from seed 3" in out and out.strip() == policy.table(tmp_path / "policy")
    assert "step 2/2" in progress


def test_building_leaves_the_callers_torch_as_it_was(tmp_path, torch):
    from tiny_policy import build

    assert (threads := torch.get_num_threads()) == 1
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build(tmp_path / "policy", steps=1, threads=2)
    assert torch.equal(torch.rand(2), expected) and torch.get_num_threads() == threads


def test_a_policy_that_reads_graphs_is_another_one(built, tmp_path, torch):
    from tiny_policy import build

    _, rules = built
    card = build(tmp_path / "graphs", reads="graphs", steps=2)
    shipped = policy.card(policy.path("graphs"))
    assert card["sha256"] != rules["sha256"] and card["accuracy"].keys() == shipped["accuracy"].keys()
    model, tokenizer = load(policy.path("graphs"))
    assert model.config.vocab_size == len(tokenizer) == len(graphs.GRAPHS.vocabulary) == card["vocabulary"]
    text = graphs.answer([3, 7, 1], "path", "commas")
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == graphs.GRAPHS.encode(text) and tokenizer.decode(ids) == text
    with pytest.raises(ValueError, match="reads='letters'.*rules, graphs"):
        build(tmp_path / "letters", reads="letters")


@pytest.mark.parametrize("reads", list(policy.KINDS))
def test_the_shipped_card_tells_what_the_shipped_weights_do(reads, torch):
    from tiny_policy import builder

    folder = policy.path(reads)
    with torch.random.fork_rng(devices=[]):
        measured = builder.KINDS[reads].reliability(load(folder)[0])
    known = policy.card(folder)["accuracy"]
    assert measured and measured.items() <= {task: near(known[task]) for task in measured}.items()


def near(cells):
    """Equal up to rounding and another library's arithmetic."""
    return {count: pytest.approx(cell, abs=0.005) for count, cell in cells.items()}


def test_training_lowers_the_loss(torch):
    from tiny_policy import train
    from tiny_policy.model import Shape, make_model

    losses: list[float] = []
    recipe = train.Recipe(steps=50, chats=4, drills=0.0, bare=1.0)
    train.pretrain(make_model(Shape(), 0), recipe, 0, lambda step, steps, figures: losses.append(figures["loss"]))
    assert losses[-1] < 0.8 * losses[0] < 0.8 * 6.0

"""House rules: rule books, what feedback reveals, and splits that share nothing."""

from __future__ import annotations

import random

import gymnasium
import pytest
from fst_envs.house import language as lang
from fst_envs.house.rules import HouseRules, draw_book

KIND_SETS = [("codes",), ("places",), ("codes", "places"), ("codes", "format"), ("places", "closing"), lang.KINDS]


def ask(env: HouseRules, index: int, answer: str, split: str = "train") -> tuple[float, str]:
    env.reset(options={"index": index, "split": split})
    _, reward, done, _, info = env.step(answer)
    assert done
    return reward, info["feedback"]


def follow(rules: list[str], env: HouseRules, word: str) -> str:
    """What a reader who knows only these sentences would answer."""
    form = next((rule.split()[-1][:-1] for rule in rules if rule.startswith("Put it in")), None)
    closing = next((rule.split()[-1][:-1] for rule in rules if rule.startswith("End with")), None)
    stated = {rule.split()[1]: rule.split()[2][:-1] for rule in rules if rule.startswith(("Write", "Send"))}
    return lang.answer(word, stated.get(word, "nothing"), form, closing)


@pytest.mark.parametrize("kinds", KIND_SETS)
def test_gold_scores_one_and_anything_else_zero(kinds):
    env = HouseRules(book=5, kinds=kinds)
    golds = [env.reset(options={"index": i})[1]["answer"] for i in range(12)]
    assert len(set(golds)) == 12
    for i, gold in enumerate(golds):
        assert ask(env, i, gold) == (1.0, "Correct.")
        wrong = ["", "banana", golds[(i + 1) % 12], gold + " " + gold, gold.split()[0], gold.split()[-1] + "x"]
        for text in wrong:
            reward, feedback = ask(env, i, text)
            assert reward == 0.0 and feedback in env.rules()


@pytest.mark.parametrize("kinds", KIND_SETS)
def test_one_feedback_sentence_at_a_time_leads_to_the_gold_answer(kinds):
    env = HouseRules(book=11, kinds=kinds)
    for i in range(12):
        known: list[str] = []
        for _ in range(4):
            question, info = env.reset(options={"index": i})
            word = next(w for w in lang.tokenize(question) if w in lang.WORDS)
            _, reward, *_, after = env.step(follow(known, env, word))
            if reward == 1.0:
                break
            assert after["feedback"] not in known, "a known rule does not mend a mistake"
            assert after["feedback"] in env.rules()
            known.append(after["feedback"])
        assert reward == 1.0
        assert len(known) == 1 + sum(kind in kinds for kind in lang.GLOBAL_KINDS)


def test_format_comes_before_the_word_and_the_closing_last():
    env = HouseRules(book=0, kinds=lang.KINDS)
    gold = env.reset(options={"index": 0})[1]["answer"]
    word, closing = gold.split()[0], gold.split()[-1]
    left, right = lang.FORMATS[env.book.form]
    assert ask(env, 0, word)[1] == lang.rule("format", env.book.form)
    assert ask(env, 0, f"{word} {left}nothing{right}")[1].startswith(("Write", "Send"))
    assert ask(env, 0, gold.removesuffix(f" {closing}"))[1] == lang.rule("closing", env.book.closing)


def test_spacing_and_case_and_a_full_stop_do_not_count():
    env = HouseRules(book=2, kinds=("codes", "format"))
    gold = env.reset(options={"index": 3})[1]["answer"]
    spaced = " " + " ".join(lang.tokenize(gold)) + " "
    assert spaced.strip() != gold
    for text in (spaced, gold.upper(), gold + ".", f"\n{gold}\n"):
        assert ask(env, 3, text)[0] == 1.0


def test_the_same_index_is_the_same_question_in_another_env():
    one, other = HouseRules(book=7, kinds=lang.KINDS), HouseRules(book=7, kinds=lang.KINDS)
    other.reset(seed=1)
    for split in ("train", "val", "test", "anchor"):
        for i in (0, 5, one.size - 1):
            assert one.reset(options={"index": i, "split": split}) == other.reset(options={"index": i, "split": split})
    assert one.reset(seed=3) == other.reset(seed=3)
    assert one.rules() == other.rules()


def test_splits_share_no_question_and_val_no_phrasing():
    env = HouseRules(book=1, kinds=("codes", "places"))
    questions: dict[str, list[str]] = {}
    for split in ("train", "val", "test"):
        questions[split] = [env.reset(options={"index": i, "split": split})[0] for i in range(env.size)]
        assert len(set(questions[split])) == env.size, "a question comes once"
    train, val, test = (set(questions[s]) for s in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test
    for kind in lang.LOOKUP_KINDS:
        bodies = [set(lang.REQUESTS[kind][split]) for split in ("train", "val", "test")]
        assert not bodies[0] & bodies[1] and not bodies[0] & bodies[2] and not bodies[1] & bodies[2]


def test_unseen_phrasings_use_only_words_of_the_seen_ones():
    def words(split: str) -> set[str]:
        return {w for by_split in lang.REQUESTS.values() for body in by_split[split] for w in lang.tokenize(body)}

    assert words("val") | words("test") <= words("train")


def test_every_block_of_indices_asks_for_every_word_once():
    env = HouseRules(book=4, words=9)
    for split in ("train", "val"):
        answers = [env.reset(options={"index": i, "split": split})[1]["answer"].split()[0] for i in range(27)]
        for block in (answers[:9], answers[9:18], answers[18:]):
            assert sorted(block) == sorted(env.book.values)


def test_books_are_drawn_from_held_out_pairs_and_differ():
    books = [draw_book(seed, ("codes", "places")) for seed in range(60)]
    assert len({tuple(book.rules()) for book in books}) == 60
    for book in books:
        assert all(lang.held_out(word, value) for word, (_, value) in book.values.items())
        kinds = [kind for kind, _ in book.values.values()]
        assert kinds.count("codes") == kinds.count("places") == 6
    assert draw_book(3).rules() == draw_book(3).rules()


def test_values_of_a_book_are_mostly_distinct():
    for seed in range(30):
        values = [value for _, value in draw_book(seed).values.values()]
        assert len(set(values)) >= 11


def test_a_family_gives_only_its_words():
    for family, words in lang.FAMILIES.items():
        assert set(draw_book(1, words=12, family=family).values) <= set(words)


def test_rules_lists_as_many_sentences_as_the_book_has_rules():
    assert len(HouseRules().rules()) == 12
    assert len(HouseRules(kinds=lang.KINDS, words=6).rules()) == 8


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kinds": ("colours",)}, "colours"),
        ({"kinds": ("format",)}, "codes"),
        ({"words": 0}, "words=0"),
        ({"words": 17, "family": "farm"}, "words=17"),
        ({"family": "zoo"}, "zoo"),
        ({"split": "exam"}, "exam"),
    ],
)
def test_a_wrong_argument_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        HouseRules(**arguments)


def test_any_text_is_judged():
    env = HouseRules(book=3, kinds=lang.KINDS)
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice('[]*" .\nabAB12\x00\u2028é😀') for _ in range(rng.randint(0, 30)))
        reward, feedback = ask(env, rng.randrange(env.size), text)
        assert reward == 0.0 and feedback in env.rules()


def test_it_is_in_the_registry():
    env = gymnasium.make("fst_envs:fst/HouseRules-v0", book=9, kinds=("places",))
    assert env.unwrapped.rules() == HouseRules(book=9, kinds=("places",)).rules()
    assert env.reset(options={"index": 4})[0] == HouseRules(book=9, kinds=("places",)).reset(options={"index": 4})[0]

import pytest

from fst_plugin.config import ConfigError, FSTConfig, inspect, parse


def test_defaults_are_the_papers():
    config = parse({})
    assert (config.population, config.slow_steps, config.fast.passes) == (4, 6, 5.0)


def test_all_problems_are_reported_together_each_with_its_key():
    bad = {"populaton": 3, "slow_steps": 0, "reflection": {"kind": "lm"}, "fast": {"passes": "many", "x": 1}}
    with pytest.raises(ConfigError) as caught:
        parse(bad)
    keys = {p.key for p in caught.value.problems}
    assert keys == {"fst.populaton", "fst.slow_steps", "fst.reflection.model", "fst.fast.passes", "fst.fast.x"}
    assert "known keys here" in str(caught.value) and "population" in str(caught.value)


def test_a_section_of_the_wrong_type_is_one_problem():
    config, problems = inspect({"fast": 3, "population": 2})
    assert [p.key for p in problems] == ["fst.fast"] and config.population == 2


def test_every_default_names_its_source():
    def fields(model):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from fields(field.annotation)
            else:
                yield name, field.description or ""

    silent = [n for n, text in fields(FSTConfig) if "ours" not in text and "paper §" not in text]
    assert silent == ["enabled", "model", "api_base"]  # a switch, and what has no default but "none"


@pytest.mark.parametrize(
    "data",
    [{"seed_prompt": "  "}, {"context": {"name": "fixed"}}, {"fast": {"crossover": True, "parents": "frontier"}}],
)
def test_parts_that_cannot_work_are_named(data):
    with pytest.raises(ConfigError):
        parse(data)


def test_a_text_that_is_not_utf8_is_refused_with_its_key():
    config, problems = inspect({"seed_prompt": "Be\udce9 kind.", "fast": {"kwargs": {"a": ["x\ud800"]}}})
    assert {p.key for p in problems} == {"fst.seed_prompt", "fst.fast.kwargs.a"} and config.seed_prompt is None

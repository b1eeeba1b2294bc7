"""How figures are written."""

import pytest

from fst_plugin.analysis.compare import text
from fst_plugin.analysis.numbers import written


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.1234, 2, "0.12"),
        (1234.5, 0, "1,234"),
        (-0.25, 2, "-0.25"),
        (0.0, 3, "0.000"),
        (-0.0, 3, "0.000"),
        (-1e-9, 3, "0.000"),
        (0.0038, 2, "0.004"),
        (-0.00042, 2, "-0.0004"),
        (0.00001, 2, "0.00"),
        (0.3, 0, "0.3"),
    ],
)
def test_a_figure_is_never_minus_0_and_not_0_where_its_first_digit_can_be_had(value, digits, expected):
    assert written(value, digits) == expected


def test_a_sign_is_written_of_positive_figures_if_asked_for():
    assert (written(0.5, 2, "+"), written(-0.5, 2, "+"), written(-0.0, 2, "+")) == ("+0.50", "-0.50", "+0.00")


def test_an_interval_with_one_end_is_left_out():
    assert text({"value": 2.4201, "low": 2.4199, "high": 2.4203}, 2) == "2.42"
    assert text({"value": 0.124, "low": -0.00001, "high": 0.203}, 3) == "0.124 [-0.00001, 0.203]"
    assert text({"value": 6, "low": None, "high": None}, 0) == "6"
    assert text({"value": "never", "low": 4, "high": "never"}, 0) == "never [4, never]"

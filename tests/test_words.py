"""Numbers as people read them."""

from __future__ import annotations

import pytest

from kamerton.words import bounds_text, number, signed


@pytest.mark.parametrize(
    ("value", "text", "with_sign"),
    [
        (0.25, "0.250", "+0.250"),
        (-0.25, "−0.250", "−0.250"),
        (1234.56, "1,235", "+1,235"),
        (0.0, "0.000", "0.000"),
        (0.0004, "0.000", "0.000"),
        (-0.0004, "0.000", "0.000"),
        (-0.0006, "−0.001", "−0.001"),
        (float("nan"), "–", "–"),
    ],
)
def test_numbers_have_three_decimals_and_zero_no_sign(value: float, text: str, with_sign: str) -> None:
    assert (number(value), signed(value)) == (text, with_sign)


def test_a_bound_is_not_rounded_to_zero() -> None:
    assert bounds_text((0.0002, 0.3)) == " [0.0002, 0.300]"
    assert bounds_text((-0.00004, 0.0)) == " [−0.00004, 0.000]"
    assert bounds_text((0.0, 1e-12)) == " [0.000, 0.000]"

"""Which labels are two spellings of one: case, spaces and Unicode form tell nothing apart, every other sign does."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.check.labels import _spelling
from kamerton.data.gate import Prepared
from kamerton.data.options import SplitOptions
from kamerton.errors import UserError
from support.rows import pairs, question

DIFFERENT = [
    ("-1", "1", "+1", "0", "-0", "1.0", "10"),
    ("C", "C++", "C#", "c*"),
    ("<=50K", ">50K", "50K", "<50K", ">=50K"),
    ("A", "A+", "A-", "A*", "a'"),
    ("पिता", "पता", "पीता", "पित"),
    ("কি", "কী", "কা", "ক"),
    ("กา", "กี", "ก้า"),
    ("👍", "👎", "👍🏽", "❤️", "💔"),
    (":)", ":(", ":-)", "?", "!", "!?", "..."),
    ("m²", "m2", "m³"),
    ("résumé", "resume", "Maße", "Masse"),
    ("x_y", "x-y", "x/y", "xy", "x.y"),
    ("ñ", "n", "ı", "i"),
]
SAME = [
    ("Yes", "yes", "YES", " yes ", "y es", "yes\u00a0", "ｙｅｓ", "yes\u200b", "Yes\t"),
    ("café", "cafe\u0301", "CAFÉ"),
    ("がく", "か\u3099く"),
    ("ガ", "ｶﾞ"),
    ("a / b", "A/B", "ａ／ｂ"),
    ("ΟΔΟΣ", "οδος"),
]


@pytest.mark.parametrize("labels", DIFFERENT)
def test_every_sign_may_tell_classes_apart(labels: tuple[str, ...]) -> None:
    assert len({_spelling(label) for label in labels}) == len(labels)


@pytest.mark.parametrize("labels", SAME)
def test_case_spaces_and_unicode_form_do_not(labels: tuple[str, ...]) -> None:
    assert len({_spelling(label) for label in labels}) == 1


def test_no_two_characters_are_one_but_for_case_form_and_width() -> None:
    by_spelling: dict[str, set[str]] = {}
    for number in range(0x110000):
        character = chr(number)
        if unicodedata.category(character) not in ("Cs", "Cn", "Co", "Zs", "Zl", "Zp", "Cc", "Cf"):
            plain = unicodedata.decomposition(character).startswith(("<wide>", "<narrow>"))
            form = "NFKC" if plain else "NFC"
            by_spelling.setdefault(_spelling(character), set()).add(unicodedata.normalize(form, character).strip())
    for characters in by_spelling.values():
        assert all(first.lower() == second.lower() for first, second in combinations(characters, 2)), characters


@given(st.lists(st.text("aAbB+-/#<>=. \u0301éＡ", min_size=1, max_size=4), min_size=2, max_size=6))
def test_equivalent_spellings_are_one_label(labels: list[str]) -> None:
    for label in labels:
        for written in (label.upper(), f" {label}\n", unicodedata.normalize("NFD", label), " ".join(label)):
            if unicodedata.normalize("NFC", "".join(written.split())).lower() == label.lower():
                assert _spelling(written) == _spelling(label)
    signs = [[character for character in label if character in "+-/#<>=."] for label in labels]
    for first, second in combinations(range(len(labels)), 2):
        if signs[first] != signs[second]:
            assert _spelling(labels[first]) != _spelling(labels[second])


def test_different_labels_pass_the_gate_silently(gate: Callable[..., Prepared]) -> None:
    labels = ("-1", "1", "C", "C++", "C#", "<=50K", ">50K", "पिता", "पता")
    prepared = gate(pairs(20 * len(labels), labels), SplitOptions(ratios=[1.0, 0.0, 0.0]))
    assert prepared.labels == sorted(labels)
    assert "label-spelling" not in {fault["code"] for fault in prepared.report["warnings"]}


def test_frequent_labels_differing_in_case_are_refused_with_both_fixes(gate: Callable[..., Prepared]) -> None:
    rows = pairs(90, ("A", "a", "b"))
    with pytest.raises(UserError) as caught:
        gate(rows)
    (fault,) = (fault for fault in caught.value.faults if fault.severity == "error")
    assert fault.code == "label-spelling"
    assert "data.policy.label-spelling=fix" in fault.fix
    assert "data.policy.label-spelling=warn" in fault.fix
    assert gate(rows, policy={"label-spelling": "warn"}).labels == ["A", "a", "b"]
    assert gate([*rows, {"prompt": question(999), "completion": "a"}], policy={"label-spelling": "fix"}).labels == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(("answers", "expected"), [(["yes"], {"one-completion"}), (["yes", "no"], set())])
def test_one_completion_in_all_rows_is_a_warning(
    codes: Callable[..., set[str]], answers: list[str], expected: set[str]
) -> None:
    rows = [{"prompt": question(i), "completion": answers[i % len(answers)]} for i in range(120)]
    assert codes(rows, near_duplicates=None) & {"one-completion"} == expected

"""An override that cannot be read: the advice is what was meant, never another value."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.config.faults import check_overrides
from kamerton.config.places import check_places
from kamerton.config.syntax import syntax_fault


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ("clip_norm=choice(", "write choice(a,b,c)"),
        ("clip_norm=interval(1)", "write interval(low,high), two numbers"),
        ("clip_norm=chioce(1,2)", "did you mean 'choice'?"),
        ("adapter.targets=[q_proj", "write a list as [a,b], and quote a text with other signs in it: ['a=b',c]"),
        ("data.labels={a", "write a mapping as {key: value}, and quote a text with other signs in it: {key: 'a=b'}"),
        (
            "name=${oc.env:NAME",
            "write an interpolation as ${other.key} or ${oc.env:NAME}, in single quotes of the shell",
        ),
        ("name='abc", "end the text with the ' that it begins with"),
        ("name=a=b,c", """write name=a,b for several values, or 'name="a=b,c"' for one text"""),
        ("name=a=b", """write 'name="a=b"'"""),
        ("+reward.a/b._target_=my.f", "write +reward.a_b._target_=my.f"),
        ("name=a&b", """write 'name="a&b"'"""),
        ("name", "write key=value, in quotes of the shell if the value has spaces: 'key=a b'"),
    ],
)
def test_the_advice_fits_what_was_meant(typed: str, fix: str) -> None:
    (fault,) = check_overrides([typed])
    assert (fault.code, fault.fix) == ("config.syntax", fix)
    assert "See https" not in fault.message
    assert "a sign in it" in fault.message or fault.message != f"cannot read {typed!r}: {typed}"


def test_a_file_alone_is_meant_as_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    (fault,) = check_overrides(["my.jsonl"])
    assert fault.fix == "write data.path=my.jsonl"


def test_letters_beyond_ascii_are_said_to_need_quotes() -> None:
    (fault,) = check_overrides(["data.path=zażółć.csv"])
    assert fault.message == "cannot read 'data.path=zażółć.csv': 'żółć' must be quoted"
    assert fault.fix == "write 'data.path=\"zażółć.csv\"'"


def test_a_name_beyond_ascii_is_answered_with_one_that_can_be_a_folder() -> None:
    (fault,) = check_overrides(["name=mąka-łódź"])
    assert fault.fix == "write name=maka-lodz"
    (fault,) = check_places({"name": "mąka łódź"})
    assert fault.fix == "write name=maka-lodz"


@settings(max_examples=60)
@given(st.text("ab'\"\\=;#é&<|!, ", min_size=1))
def test_a_text_that_is_advised_to_be_quoted_is_that_text(value: str) -> None:
    try:
        OverridesParser.create().parse_override(f"project={value}")
    except HydraException as error:
        advised = syntax_fault(f"project={value}", error).fix.removeprefix("write ")
        if "project" in advised and "for several" not in advised:
            (word,) = shlex.split(advised)
            assert OverridesParser.create().parse_override(word).value() == value


@pytest.mark.parametrize("space", ["choice(null,0.5)", "shuffle(null,0.5)", "tag(choice(null,0.5))", "null,0.5"])
def test_a_choice_may_be_null(space: str) -> None:
    assert check_overrides(["sweep=default", f"clip_norm={space}"]) == []
    assert check_overrides([f"clip_norm={space}"]) == []
    (fault,) = check_overrides(["sweep=default", f"clip_norm={space.replace('0.5', '-1')}"])
    assert "clip_norm is -1" in fault.message


def test_a_secret_in_what_cannot_be_read_is_masked() -> None:
    text = "data.path=https://ann:hunter2@example.org/a.jsonl?a={b"
    (fault,) = check_overrides([text])
    assert fault.code == "config.syntax"
    assert "hunter2" not in str(fault)

"""Settings in a fix can be pasted into a shell; they remove the fault and cause no other."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from kamerton.config.check import section
from kamerton.config.compose import compose_values
from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import Fault, UserError
from kamerton.shell import setting
from support.rows import pairs, question

KEY = r"(?:data|split)(?:\.[\w-]+)*="
TYPED = rf"(?:'{KEY}(?:[^']|'\"'\"')*'|{KEY}\S+)"
TOGETHER = re.compile(rf"{TYPED}(?: {TYPED})*")  # settings with nothing but a space between them belong together

Row = dict[str, Any]
BASE = ["data=jsonl", "split.ratios=[1,0,0]", "data.near_duplicates=null"]


def gated(path: Path, typed: list[str]) -> tuple[Prepared | None, list[Fault]]:
    """Return the gate's result and faults for the file with these command line overrides."""
    values = compose_values([*BASE, f"data.path={path}", *typed])
    data, split = section(DataOptions, values, "data"), section(SplitOptions, values, "split")
    assert data is not None
    try:
        prepared = prepare(data, split)
    except UserError as error:
        return None, list(error.faults)
    return prepared, [Fault(**fault) for fault in prepared.report["faults"]]


def chat(*turns: tuple[str, str]) -> Row:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


CHATS = [chat(("user", question(i)), ("assistant", question(i + 500))) for i in range(30)]
OTHER_NAMES = [{"Customer Message": row["prompt"], "team, or 'desk'": row["completion"]} for row in pairs(60)]
NEARLY = [{"promt": row["prompt"], "Team (now)": row["completion"]} for row in pairs(60)]

FAULTY: dict[str, tuple[list[Any], list[str]]] = {
    "bad-json": ([*pairs(60), "{"], []),
    "not-an-object": ([*pairs(60), "[1]"], []),
    "repeated-key": ([*pairs(60), '{"prompt": "a", "completion": "yes", "prompt": "b"}'], []),
    "missing-field": ([*pairs(60), {"prompt": "a", "completion": None}], []),
    "empty-field": ([*pairs(60), {"prompt": "a", "completion": " "}], []),
    "not-a-string": ([*pairs(60), {"prompt": 5, "completion": "yes"}], []),
    "not-text": ([*pairs(60), {"prompt": "a", "completion": ["yes"]}], []),
    "bad-messages": ([*CHATS, {"messages": [{"role": "pilot", "content": "a"}]}], []),
    "trailing-turns": ([*CHATS, chat(("user", "a"), ("assistant", "b"), ("user", "c"))], []),
    "mixed-schemas": ([*pairs(60), {"text": "a"}], []),
    "control-characters": ([*pairs(60), {"prompt": "a\u200bb", "completion": "yes"}], []),
    "mojibake": ([*pairs(60), {"prompt": "cafÃ© crÃ¨me", "completion": "yes"}], []),
    "not-nfc": ([*pairs(60), {"prompt": "cafe\u0301", "completion": "yes"}], []),
    "outer-whitespace": ([*pairs(60), {"prompt": " a b", "completion": "yes"}], []),
    "near-duplicate": (
        [*pairs(60), {"prompt": question(3).replace("?", " ?"), "completion": "no"}],
        ["data.near_duplicates=0.85"],
    ),
    "label-spelling": ([*pairs(60), {"prompt": "a", "completion": "YES"}], []),
    "unknown-label": ([*pairs(60), {"prompt": "a", "completion": "perhaps"}], ["data.labels=[yes,no]"]),
    "label-imbalance": ([*pairs(60, ("yes",)), *pairs(62, ("no",))[60:]], ["data.labels=[yes,no]"]),
    "outlying-length": ([*pairs(300), {"prompt": question(1) * 200, "completion": "yes"}], []),
    "wrong names": (OTHER_NAMES, []),
    "unknown-column": (NEARLY, ["data.columns.prompt=promt", "data.columns.completion=Team"]),
}


@pytest.mark.parametrize("case", FAULTY)
def test_every_setting_of_a_fix_works(case: str, tmp_path: Path) -> None:
    rows, typed = FAULTY[case]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    prepared, before = gated(path, typed)
    code = "missing-field" if case == "wrong names" else case
    fault = next(fault for fault in before if fault.code == code)
    ways = TOGETHER.findall(fault.fix)
    assert ways, fault.fix
    errors = {fault.code for fault in before if fault.severity == "error"}
    for way in ways:
        mended, after = gated(path, [*typed, *shlex.split(way)])
        assert mended is not None, (way, after)
        left = [fault for fault in after if fault.code == code and fault.severity == "error"]
        assert not left, way
        assert {fault.code for fault in after if fault.severity == "error"} <= errors - {code}
        if code != "label-imbalance":  # its labels are those that it was given
            silent = {fault.code for fault in after} - {fault.code for fault in before}
            assert silent <= {"label-missing", "rare-label", "label-imbalance", "few-rows", "exact-duplicate"}
        if prepared is not None and "=drop" not in way:
            assert mended.labels == prepared.labels
        if case in ("label-spelling", "wrong names", "unknown-column"):
            assert mended.labels == (["YES", "no", "yes"] if "warn" in way else ["no", "yes"])


@given(st.text(min_size=1, max_size=12).filter(lambda text: "${" not in text and "\0" not in text))
def test_a_setting_is_read_as_it_was_meant_whatever_the_value(value: str) -> None:
    (typed,) = shlex.split(setting("data.columns.prompt", value))
    assert OverridesParser.create().parse_override(typed).value() == value

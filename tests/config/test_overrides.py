"""Templates on the command line, with and without the quotes of Hydra's grammar."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kamerton.config.overrides import quote_templates


@pytest.mark.parametrize(
    "value",
    [
        r"{context}\n\n{question}",
        "Text: {context}",
        'Be brief, please: "no" (at all) \\',
        "Answer yes, no or maybe.",
        "{a}",
        "{{a}}",
        "plain",
    ],
)
@pytest.mark.parametrize("key", ["data.prompt", "data.system", "+data.completion", "data.sources.mine.instruction"])
def test_templates_are_read_as_they_are_typed(key: str, value: str) -> None:
    (text,) = quote_templates([f"{key}={value}"])
    assert OverridesParser.create().parse_override(text).value() == value


@pytest.mark.parametrize(
    "text",
    [
        'data.prompt="{context}"',
        "data.prompt='{a}','{b}'",
        "data.system=null",
        "data.label_names={0: no, 1: yes}",
        "data.sources={mine: {path: a.jsonl}}",
        "optimizer.lr=1e-3,1e-4",
        "--show",
    ],
)
def test_other_arguments_are_unchanged(text: str) -> None:
    assert quote_templates([text]) == [text]

"""The code blocks of README.md and docs/*.md have marks, and their commands are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from blocks import KINDS, ROOT, Block, Command, blocks, pages, parse

from commands import check
from kamerton.config.faults import check_overrides

BLOCKS = blocks()


def test_every_block_has_a_mark() -> None:
    assert [item.where for item in BLOCKS if item.mark is None] == []
    assert [item.where for item in BLOCKS if item.kind not in KINDS] == []
    assert [item.where for item in BLOCKS if item.kind == "none" and not re.match(r"because \w", item.rest)] == []
    assert [item.where for item in BLOCKS if item.kind == "shown" and not (ROOT / item.rest[3:]).is_file()] == []
    assert len(BLOCKS) > 60


def test_blocks_are_found_fenced_and_indented() -> None:
    fenced = "```\na \\\n  b   # why\n\n# only a comment\nX=1 c '# d'\n```"
    text = f"\n<!-- test: check -->\n{fenced}\ntext\n\n    e\n\n    f\n\ng\n"
    first, second = parse(text, "page")
    assert (first.kind, first.line, second.mark, second.text) == ("check", 3, None, "e\n\nf")
    assert [item.words for item in first.commands("check")] == [("a", "b"), ("c", "# d")]
    assert first.commands("check")[1].environment == (("X", "1"),)


@pytest.mark.parametrize("page", pages(lambda block: block.commands("check")))
def test_commands_are_what_the_program_takes(page: str, files: Path) -> None:
    for block in blocks(page):
        for command in _steps(block) or block.commands("check"):
            print(block.where, command.text)  # shown if it fails
            check(command)


def _steps(block: Block) -> list[Command]:
    """The commands of a step of a workflow, which is YAML."""
    if block.kind != "check" or not block.text.startswith("- name:"):
        return []
    (step,) = yaml.safe_load(block.text)
    return Block(block.page, block.line, step["run"], "check").commands("check")


@pytest.mark.parametrize("block", [item for item in BLOCKS if item.rest.endswith(".yaml")], ids=lambda item: item.where)
def test_a_custom_file_composes(block: Block, files: Path) -> None:
    if not block.rest.startswith("my/"):
        assert yaml.safe_load(block.text)
        return
    _, group, name = block.rest.removesuffix(".yaml").split("/")
    assert check_overrides([f"{group}={name}"], "my") == []

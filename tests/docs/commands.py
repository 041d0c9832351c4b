"""Commands of the pages: checked unchanged, or run on the tiny model."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from blocks import ROOT, Command

from kamerton.cli import main
from kamerton.commands.compare import ROOT as COMPARE
from kamerton.commands.runs import _parser as runs_parser
from kamerton.commands.serve import _parser as serve_parser
from kamerton.commands.serve import to_settings
from kamerton.config.faults import TRAIN, check_overrides
from kamerton.config.flags import parse_flags
from kamerton.score.options import ROOT as EVALUATE

ROOTS = {"train": TRAIN, "prepare": TRAIN, "evaluate": EVALUATE, "compare": COMPARE}
# Added to a command that runs, whatever it is: a tiny model instead of the default one, few steps, small data.
SMALL = {
    "train": ("trainer.max_steps=2", "scheduler.warmup_steps=1", "base=false", "baselines=false", "logger=null"),
    "evaluate": ("score.max_new_tokens=4",),
}
DATA = ("data=jsonl", "data.path=questions.jsonl")
_NOTHING = {"…", "..."}  # placeholders for the rest of a command


def check(command: Command) -> None:
    """Fail if a command has an unknown name, key or value."""
    name, *words = command.words or ("export",)
    if name == "kamerton":
        _check_kamerton(words)
    elif name == "torchrun":
        _check_kamerton(words[words.index("kamerton") + 1 :])
    elif name == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[0] in targets, f"the Makefile has no {words[0]}"
    elif name == "sh" or name.endswith(("python", ".sh")):
        _check_script([name, *words] if name.endswith(".sh") else words)
    elif name == "pip":
        _check_extra(words)
    else:
        assert name == "export", f"nothing checks {command.text!r}"


def _check_kamerton(words: Sequence[str]) -> None:
    name, *rest = [word for word in words if word not in _NOTHING]
    if name == "runs":
        runs_parser().parse_args(rest)
        return
    if name == "serve":
        options = serve_parser().parse_args(rest)
        if options.tokens is None:
            to_settings(options)
        return
    if "--show" in rest:
        at = rest.index("--show")
        rest = rest[:at] + rest[at + 2 :]
    root = ROOTS[name]
    flags = parse_flags(rest, root.name)
    faults = check_overrides(flags.overrides, flags.config_dir, sweeps=flags.multirun, root=root)
    assert [str(fault) for fault in faults if fault.severity == "error"] == []


def _check_script(words: Sequence[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "page", "exec")
        return
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1])
        return
    path = ROOT / words[0]
    assert path.is_file(), f"there is no {words[0]}"
    text = path.read_text()
    beside = [path.with_name(f"{name}.py") for name in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)]
    text += "".join(module.read_text() for module in beside if module.is_file())
    missing = [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in text]
    assert missing == [], f"{words[0]} does not take {missing}"


def _check_extra(words: Sequence[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if own := re.fullmatch(r"kamerton\[([\w-]+)\]", word):
            assert own[1] in extras, f"there is no extra {own[1]}"


def small(words: Sequence[str]) -> list[str]:
    """The words of a `kamerton` command with those that let it run in a second."""
    name, *rest = words
    own = {word.partition("=")[0] for word in rest}
    added = list(SMALL.get(name, ()))
    if name in ("train", "prepare"):
        added += ["model=tiny"] if not own & {"model"} else []
        added += (
            list(DATA)
            if not own & {"data", "data.path", "data.train", "data.sources", "-sc"} and "--config-dir" not in rest
            else []
        )
    return [*words, *(word for word in added if word.partition("=")[0] not in own)] if "-sc" not in rest else [*words]


def run(command: Command, patch: pytest.MonkeyPatch, *, as_it_stands: bool = False) -> int:
    """Run a command in the current folder; its exit code."""
    for name, value in command.environment:
        patch.setenv(name, value)
        if name == "PYTHONPATH":
            patch.syspath_prepend(str(Path(value).absolute()))
    name, *words = command.words
    if name == "kamerton":
        return main(words if as_it_stands else small(words))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    text = re.sub(r"n_trials=\d+", "n_trials=5", command.text)
    return subprocess.run(["bash", "-c", text], env={**os.environ, "PATH": path}, check=False).returncode

"""Every key of a configuration: type and default from its dataclass, meaning from the comments of conf/."""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
from pydantic import BeforeValidator

from hydra_plugins.kamerton._options import OptunaSweeperConf
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from kamerton.decide.compare.options import CompareOptions
from kamerton.score.options import EvaluateOptions

CONF = Path(__file__).resolve().parents[2] / "conf"
NODES = ("optimizer", "trainer", "callbacks", "logger")  # their keys are arguments of the class that they name
_KEY = re.compile(r"^(?P<indent> *)(?:# )?(?P<key>[\w-]+):(?P<value>[^#]*?)(?:\s+# ?(?P<comment>.*))?$")
_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}


def configuration_page() -> str:
    """The page `reference/configuration.md`."""
    train = compose_values(["data=jsonl"])
    chosen = {group: option for each in OptunaSweeperConf().defaults for group, option in each.items()}
    sections = [
        "# Configuration keys\n\nGenerated from the schema of the configuration and the comments in `conf/`. How to set"
        " them: [how-to/configuration.md](../how-to/configuration.md).",
        "## kamerton train\n\nDefaults are those of `kamerton train data=jsonl`. A preset may change them: the default"
        " data (`data=trec`) set `trainer.max_steps=100`, `eval.strategy=steps`, `eval.every=50`, `data.max_length=512`"
        " and `split.stratify=label`.",
        *_sections(Config, train, ("train.yaml",)),
        "## kamerton evaluate\n\n`model`, `data`, `split`, `batch` and `score` take the keys above; for a run, they"
        " default to the run's own.",
        *_sections(EvaluateOptions, compose_values([], "evaluate"), ("evaluate.yaml",), skip=_shared()),
        "## kamerton compare",
        *_sections(CompareOptions, compose_values(["runs=[]"], "compare"), ("compare.yaml",), skip={"paths"}),
        "## hydra.sweeper\n\nWith `sweep=…`, or `hydra/sweeper=optuna` in any Hydra application"
        " ([sweeps_plugin.md](../how-to/sweeps_plugin.md)).",
        _table(_rows(OptunaSweeperConf, "hydra.sweeper", chosen, {}, {"defaults", "_target_", "_recursive_"})),
    ]
    return "\n\n".join(sections) + "\n"


def _shared() -> set[str]:
    return {"model", "data", "split", "batch", "score", "metrics", "trainer", "eval", "paths"}


def _sections(
    schema: type, values: Mapping[str, Any], files: tuple[str, ...], skip: set[str] | frozenset[str] = frozenset()
) -> Iterator[str]:
    """A table of the keys at the top, then one for each section."""
    comments = {key: text for name in files for key, text in _comments(CONF / name, "")}
    hints = typing.get_type_hints(schema, include_extras=True)
    inner = {name: _dataclass(hint) for name, hint in hints.items() if name not in skip}
    yield _table(_rows(schema, "", values, comments, skip={*skip, *NODES, *(n for n, c in inner.items() if c)}))
    for name, section in inner.items():
        if section is not None:
            section_comments = comments | dict(_group_comments(name))
            yield f"### {name}\n\n" + _table(_rows(section, name, values.get(name) or {}, section_comments))
        elif name in NODES:
            yield f"### {name}\n\n" + _node(name)


def _rows(
    schema: type, prefix: str, values: Mapping[str, Any], comments: Mapping[str, str], skip: set[str] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of each field; fails if a key has no meaning."""
    hints = typing.get_type_hints(schema, include_extras=True)
    beside = _field_comments(schema)
    for field in dataclasses.fields(schema):
        if field.name in (skip or ()):
            continue
        key = f"{prefix}.{field.name}" if prefix else field.name
        inner = _dataclass(hints[field.name])
        if inner is not None and "dict" not in str(hints[field.name]):
            yield from _rows(inner, key, values.get(field.name) or {}, comments)
            continue
        meaning = comments.get(key) or beside.get(field.name)
        if not meaning:
            raise SystemExit(f"{key} has no meaning: write a comment beside it in conf/ or in {schema.__module__}")
        default = values[field.name] if field.name in values else _default(field)
        yield f"`{key}`", type_words(hints[field.name]), _shown(default), meaning


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _dataclass(hint: Any) -> type | None:
    """The dataclass that a hint names, also as one of a union."""
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def _group_comments(group: str) -> Iterator[tuple[str, str]]:
    """The comments of all options of a group, as keys of its section; the first file that has one counts."""
    comments: dict[str, str] = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        for key, text in _comments(file, f"{group}."):
            comments.setdefault(key, text)
    yield from comments.items()


def _comments(file: Path, prefix: str) -> Iterator[tuple[str, str]]:
    """The comments beside keys of a YAML file, with the keys above them."""
    above: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _KEY.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        above = [(depth, key) for depth, key in above if depth < indent]
        path = ".".join([*(key for _, key in above), match["key"]])
        if match["comment"]:
            yield prefix + path, match["comment"].strip()
        above.append((indent, match["key"]))


def _field_comments(schema: type) -> dict[str, str]:
    """The comments beside the fields of a dataclass."""
    lines: dict[int, str] = {}
    source = inspect.getsource(schema)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0]] = token.string.lstrip("# ")
    names = {at: m[1] for at, line in enumerate(source.splitlines(), 1) if (m := re.match(r"    (\w+):", line))}
    return {names[at]: text for at, text in lines.items() if at in names}


def _node(name: str) -> str:
    """What the options of a group that names classes set."""
    rows = []
    for file in sorted((CONF / name).glob("*.yaml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        about = " ".join(line.lstrip("# ") for line in lines if line.startswith("# ") and not line.startswith("# @"))
        keys = [line.split("#")[0].strip() for line in lines if line and not line.startswith("#")]
        keys = [f"`{key}`" for key in keys if not key.startswith(("_partial_", "defaults: ["))]
        rows.append((f"`{name}={file.stem}`", "<br>".join(keys), about))
    head = "| option | sets | remarks |\n| --- | --- | --- |\n"
    return head + "\n".join(f"| {option} | {keys} | {_cell(about)} |" for option, keys, about in rows)


def type_words(hint: Any) -> str:
    """A type as a reader would name it."""
    if typing.get_origin(hint) is Annotated:
        base, *marks = typing.get_args(hint)
        if any(isinstance(mark, BeforeValidator) for mark in marks):
            return "integer ≥ 1 or share < 1"
        return type_words(base) + "".join(_bound(mark) for mark in marks)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return ", ".join(dict.fromkeys(type_words(argument) for argument in arguments))
    if origin is Literal:
        return " ".join(f"`{argument}`" for argument in arguments)
    if origin in (list, tuple):
        return f"list of {type_words(arguments[0])}" if arguments else "list"
    if origin is dict:
        return "mapping"
    return _WORDS.get(hint, "any")


def _bound(mark: Any) -> str:
    names = {annotated_types.Ge: ("≥", "ge"), annotated_types.Gt: (">", "gt")}
    names |= {annotated_types.Le: ("≤", "le"), annotated_types.Lt: ("<", "lt")}
    sign, attribute = names[type(mark)]
    value = getattr(mark, attribute)
    return f" {sign} {'2³²' if value == 2**32 else value}"


def _shown(value: Any) -> str:
    if value is dataclasses.MISSING or value in ("???", None):
        return "null" if value is None else "required"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text if len(text) <= 40 else text[:32] + '…'}`"


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {' | '.join(_cell(part) for part in row)} |" for row in rows])


def _cell(text: str) -> str:
    """A text that a table can hold, with links to the pages that it names."""
    linked = re.sub(r"\(docs/([\w/-]+/)?(\w+)\.md\)", r"([\2](../\1\2.md))", text)
    return re.sub(r"<(?=[\w.]+>)", "&lt;", re.sub(r"(?<!\\)\|", r"\\|", linked))

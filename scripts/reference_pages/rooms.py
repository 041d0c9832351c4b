"""The picture of the rooms: the layers of the import contract, a sentence for each, and a dot for every import."""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "kamerton"
TASKS = {
    "cli": "the command kamerton",
    "commands": "one file for each command",
    "server": "OpenAI-compatible API over run directories",
    "jobs": "runs in their own processes, from Python",
    "sweep": "trials and their report",
    "hosted": "models trained at an endpoint",
    "pipeline": "one run from start to finish",
    "decide": "comparisons, statistics, gate, reports",
    "score": "one row per example, metrics",
    "train": "Lightning modules, callbacks, strategies",
    "run": "the run directory, checkpoints",
    "config": "schema, composition, checks",
    "data": "files to checked, split, encoded examples",
    "objective": "losses of preferences, as pure functions",
    "model": "loading, adapters, tree engine, loss",
    "report": "page layout, charts",
    "plan": "members and batch layout of each step",
    "monitor": "detectors of problems",
    "shell": "command lines that can be pasted",
    "console": "terminals and tables",
    "assets": "files from package registries",
    "cores": "how many, and how threads share them",
    "endpoint": "OpenAI-compatible clients",
    "locks": "lock files of processes",
    "output": "progress bars, closed pipes",
    "quiet": "notices of other packages",
    "words": "numbers, durations, suggestions",
    "direction": "whether more of a metric is better",
    "errors": "faults and exceptions",
    "files": "atomic writes",
    "mask": "secrets in texts",
}
ROW, LEFT, TOP, STEP = 24, 400, 74, 18
COLOURS = ("#eef3fb", "#f6f8fa")


def rooms_picture() -> str:
    """The file `images/rooms.svg`."""
    layers = _layers()
    rooms = [room for layer in layers for room in layer]
    imports = {room: _imports(room, rooms) for room in rooms}
    width, height = LEFT + STEP * len(rooms) + 20, TOP + ROW * len(rooms) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        "<title>The rooms of Kamerton and their imports</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for at, room in enumerate(rooms):
        layer = next(number for number, names in enumerate(layers) if room in names)
        y, x = TOP + ROW * at, LEFT + STEP * at
        parts += [
            f'<rect x="8" y="{y}" width="{width - 16}" height="{ROW - 2}" fill="{COLOURS[layer % 2]}"/>',
            f'<text x="16" y="{y + 15}" font-weight="bold" fill="#1f2328">{room}</text>',
            f'<text x="96" y="{y + 15}" fill="#424a53">{escape(TASKS[room])}</text>',
            f'<text transform="translate({x + 4},{TOP - 6}) rotate(-60)" font-size="11" fill="#424a53">{room}</text>',
            f'<rect x="{x - 5}" y="{y + 6}" width="10" height="10" fill="#afb8c1"/>',
        ]
        parts += [
            f'<circle cx="{LEFT + STEP * rooms.index(other)}" cy="{y + 11}" r="4" fill="#0969da"/>'
            for other in sorted(imports[room], key=rooms.index)
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _layers() -> list[list[str]]:
    """The rooms from the top to the bottom, as the contract in pyproject.toml has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each.get("containers") == ["kamerton"])
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in layers]


def _imports(room: str, rooms: list[str]) -> set[str]:
    """The other rooms that a room imports, anywhere in its files."""
    folder = SOURCE / room
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    names = {
        part
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kamerton.")
        for part in [str(node.module).split(".")[1]]
    }
    return (names & set(rooms)) - {room}

"""Write docs/reference and the picture of the rooms from the code: python scripts/reference.py [--check]

`--check` writes nothing, lists the pages that differ from the code, and exits with 1 if there are any.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reference_pages.codes import codes_page
from reference_pages.keys import configuration_page
from reference_pages.python import python_page
from reference_pages.rooms import rooms_picture
from reference_pages.run_directory import run_directory_page
from reference_pages.scores import scores_page

ROOT = Path(__file__).resolve().parents[1]


def pages() -> dict[str, str]:
    """The text of each generated file, by its path below docs/."""
    return {
        "reference/configuration.md": configuration_page(),
        "reference/codes.md": codes_page(),
        "reference/run_directory.md": run_directory_page(),
        "reference/scores.md": scores_page(),
        "reference/python.md": python_page(),
        "images/rooms.svg": rooms_picture(),
    }


def main(check: bool) -> int:
    changed = []
    for name, text in pages().items():
        file = ROOT / "docs" / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            changed.append(name)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    for name in changed:
        print(f"docs/{name} {'differs from the code: python scripts/reference.py' if check else 'written'}")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

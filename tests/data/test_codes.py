"""The table of fault codes is complete: every code in the source is in it, and every one is used and documented."""

from __future__ import annotations

import re
from pathlib import Path

import kamerton.data
from kamerton.data.codes import CODES

SOURCE = Path(kamerton.data.__path__[0])


def test_codes_in_the_source_are_those_of_the_table() -> None:
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py") if path.name not in ("codes.py", "module.py"))
    used = set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"', text))
    raised = set(re.findall(r'(?:Fault|Check)\(\s*"([a-z-]+)"', text))
    assert raised <= set(CODES)
    assert set(CODES) <= used

"""The changelog lists what is released, and the version is stated once."""

from __future__ import annotations

import re
import tomllib

from blocks import ROOT

import kamerton


def test_the_version_is_the_one_of_the_package() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == kamerton.__version__


def test_the_changelog_begins_with_what_is_not_released_yet() -> None:
    releases = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == "Unreleased" if ".dev" in kamerton.__version__ else releases[0] == kamerton.__version__
    assert len(releases) == len(set(releases))

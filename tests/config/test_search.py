"""Where the user's own configuration files are: the same places for the check, for Hydra, and for a printed command."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.config.compose import compose_config, force, plain, searching
from kamerton.config.faults import check_overrides
from kamerton.config.search import config_dir_of, missing_folders, other_places, places, search_words, split_search


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create `mine` and `other`, each with its own experiment, in the current folder."""
    for number, name in enumerate(("mine", "other")):
        file = tmp_path / name / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"# @package _global_\nname: {name}\nseed: {number}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WAYS = [
    ("mine", []),
    (None, ["hydra.searchpath=[mine]"]),
    (None, ["hydra.searchpath=['file://mine']"]),
    ("other", ["hydra.searchpath=[mine]"]),
    ("mine", ["hydra.searchpath=[file://other]"]),
]


@pytest.mark.parametrize(("config_dir", "typed"), WAYS)
def test_an_experiment_is_found_in_every_place_and_from_every_folder(
    folders: Path, monkeypatch: pytest.MonkeyPatch, config_dir: str | None, typed: list[str]
) -> None:
    """By the check, by Hydra, and by the words of a command that is pasted elsewhere."""
    words = search_words(config_dir, typed)
    elsewhere = folders / "elsewhere"
    elsewhere.mkdir()
    search, others = split_search([*words, "experiment=mine", "seed=7"])
    assert search == words
    assert others == ["experiment=mine", "seed=7"]
    typed_words = [(config_dir, [*typed, *others]), (config_dir_of(search), [*search[bool(config_dir) :], *others])]
    for folder, (directory, overrides) in zip((folders, elsewhere), typed_words, strict=True):
        monkeypatch.chdir(folder)
        assert check_overrides(overrides, directory) == []
        values = plain(compose_config(searching(directory, force(overrides, directory))))
        assert (values["name"], values["seed"]) == ("mine", 7)
    assert missing_folders(search) == []


def test_search_paths_are_in_hydras_order(folders: Path) -> None:
    result = places("mine", ["hydra.searchpath=[other,pkg://a.b]"])
    assert result == [f"file://{folders / 'mine'}", f"file://{folders / 'other'}", "pkg://a.b"]


def test_missing_folders_and_packages_are_listed(folders: Path) -> None:
    search = search_words("gone", ["hydra.searchpath=[mine,pkg://a.b,away]"])
    assert missing_folders(search) == [str(folders / "gone"), str(folders / "away")]
    assert other_places(search) == ["pkg://a.b"]
    assert search_words(None, ["seed=1"]) == []


def test_an_unknown_option_is_a_fault_with_custom_search_paths(folders: Path) -> None:
    (fault,) = check_overrides(["hydra.searchpath=[mine]", "experiment=mien"])
    assert fault.code == "config.option"
    assert "mine" in fault.fix

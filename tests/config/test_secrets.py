"""What goes into files: the environment by name, secrets masked, everything else as it is."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from kamerton.config.compose import plain
from kamerton.config.secrets import redacted, unresolved


def test_environment_variables_are_stored_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    config = OmegaConf.create(
        {
            "name": "${oc.env:TOKEN}",
            "a": {"key": "${oc.env:TOKEN}", "url": "https://x/${a.key}/y", "list": [1, "${a.key}"]},
            "number": 3,
            "default": "${oc.env:NOT_THERE,plain}",
        }
    )
    values = plain(config)
    assert values["a"]["url"] == "https://x/s3cret/y"
    public = redacted(values, unresolved(config))
    assert public["a"] == {
        "key": "${oc.env:TOKEN}",
        "url": "https://x/${oc.env:TOKEN}/y",
        "list": [1, "${oc.env:TOKEN}"],
    }
    assert public["number"] == 3
    assert public["default"] == "${oc.env:NOT_THERE}"
    assert public["name"] == "s3cret"  # the run's directory is called so
    assert plain(config) == values  # resolving works as before


def test_secret_looking_keys_are_masked() -> None:
    public = redacted({"logger": {"x": {"api_key": "abc", "project": "p"}}, "paths": {"outputs": "o"}}, {})
    assert public == {"logger": {"x": {"api_key": "•••", "project": "p"}}, "paths": {"outputs": "o"}}


def test_the_name_of_a_secret_is_no_secret() -> None:
    assert redacted({"token": "abc"}, {"token": "${oc.env:TOKEN}"}) == {"token": "${oc.env:TOKEN}"}

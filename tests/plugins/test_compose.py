"""The jobs of a sweep are composed as Hydra composes each of them alone."""

from __future__ import annotations

from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_plugins.kamerton._compose import SweepLoader, composing_once

FILES = {
    "app.yaml": """
        defaults:
            - _self_
            - db: mysql
            - optional extra: null
            - optional both: ${db}
            - override hydra/job_logging: none
        x: 0
        twice: ${x}
        time: ${now:%f}
        nested: {a: 1, list: [1, 2]}
        free: {}
        hydra: {job: {env_copy: [COMPOSED]}, searchpath: [more]}""",
    "db/mysql.yaml": "{name: mysql, port: 1}",
    "db/sqlite.yaml": "{name: sqlite, file: '${x}'}",
    "extra/on.yaml": "{defaults: [{/db@inner: sqlite}], on: true}",
    "both/sqlite.yaml": "# @package _global_\nx: 5",
    "more/kind/one.yaml": "kind: 1",
}
DRAWN = [
    *("x=1", "x=null", "x='a b'", "+x=3", "++x={y: 1}", "x=${nested.a}", "~x", "x=1,2", "no=1", "x=["),
    *("nested.a=7", "nested={a: 2}", "nested.list=[3]", "~nested.list", "nested.list=[]", "+free.deep.er=1"),
    *("db=sqlite", "db=none", "~db", "db={port: 3}", "db.port=4", "+db@second=sqlite", "extra=on", "++extra.more=2"),
    *("+kind=one", "kind=one", "kind.kind=2", "hydra.sweep.subdir=s", "hydra.job.name=n", "+hydra.job.env_set.A=b"),
    *("hydra/job_logging=default", "hydra.searchpath=[]", "+hydra/launcher=process"),
]


@pytest.fixture(scope="module")
def hydra_loader(tmp_path_factory: pytest.TempPathFactory) -> ConfigLoaderImpl:
    folder = tmp_path_factory.mktemp("conf")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("[more]", f"[{folder / 'more'}]"))
    setup_globals()
    return ConfigLoaderImpl(create_config_search_path(str(folder)))


@pytest.fixture(scope="module")
def sweep_loader(hydra_loader: ConfigLoaderImpl) -> Any:
    return composing_once(HydraContext(hydra_loader, callbacks=None)).config_loader  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def master(hydra_loader: ConfigLoaderImpl) -> DictConfig:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSED", "0")
        config = hydra_loader.load_configuration("app", ["hydra.sweep.dir=here", "x=1,2"], RunMode.MULTIRUN)
    assert config.time  # is the same in every job
    return config


def described(node: Any) -> list[Any]:
    """What a configuration has beside its values: flags, types and the order of keys."""
    content = node._content if isinstance(node, DictConfig | ListConfig) else None
    children = list(content.items()) if isinstance(content, dict) else list(enumerate(content or []))
    metadata = [node._metadata.flags or {}, node._metadata.ref_type, node._metadata.object_type]
    return [*metadata, *((key, described(child)) for key, child in children if isinstance(content, dict | list))]


def outcome(loader: Any, master: DictConfig, overrides: list[str]) -> list[Any]:
    """A job's configuration with its cache of resolved values, or why it cannot be composed."""
    try:
        config = loader.load_sweep_config(master, overrides)
    except Exception as error:
        return [type(error), str(error)]
    text = OmegaConf.to_yaml(config)
    result = [text, described(config), OmegaConf.get_cache(config)]
    config.hydra.overrides.task.append("changed=1")  # in this job alone
    return result


@given(st.lists(st.sampled_from(DRAWN), max_size=4), st.sampled_from("12"))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_job_is_composed_as_hydra_composes_it(
    hydra_loader: ConfigLoaderImpl,
    sweep_loader: Any,
    master: DictConfig,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    variable: str,
) -> None:
    monkeypatch.setenv("COMPOSED", variable)
    expected = outcome(hydra_loader, master, overrides)
    assert outcome(sweep_loader, master, overrides) == expected


def test_jobs_that_differ_in_values_read_no_file_again(
    sweep_loader: SweepLoader, master: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSED", "3")
    sweep_loader.load_sweep_config(master, ["x=0"])
    monkeypatch.setattr(SweepLoader, "load_configuration", None)
    assert [sweep_loader.load_sweep_config(master, [f"x={x}"]).x for x in (1, 2)] == [1, 2]


def test_a_loader_of_another_kind_is_kept(hydra_loader: ConfigLoaderImpl) -> None:
    class Other(ConfigLoaderImpl):
        pass

    context = HydraContext(Other(hydra_loader.config_search_path), callbacks=None)  # type: ignore[arg-type]
    assert composing_once(context) is context

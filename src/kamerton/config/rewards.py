"""The section `reward`: nodes that name functions of (prompt, completion, reference, metadata), with their weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kamerton.config.objective_options import GENERATING
from kamerton.config.schema import Config, mapping_at
from kamerton.config.targets import REWARD_OPTIONS, REWARDS, is_allowed, locate_function, trusting
from kamerton.errors import Fault, UserError
from kamerton.objective.graders import build_grader, read_grader
from kamerton.objective.grading import Reward, RewardFunction

Values = Mapping[str, Any]
GRADER = f"{REWARDS}grader"  # the reward of a grader in a file
TAKEN = ("spread", "chosen", "rejected", "desired", "undesired")  # reward_NAME is another metric


def reward_nodes(section: Values) -> dict[str, Values]:
    """Return the nodes of the section by name: its entries, and `reward._target_` by the name of its function."""
    nodes = {str(name): node for name, node in section.items() if names_target(node)}
    if section.get("_target_") is None:
        return nodes
    own = {name: value for name, value in section.items() if not names_target(value)}
    return {str(section["_target_"]).rpartition(".")[2]: own, **nodes}


def typed_rewards(section: Values) -> str:
    """Return what to type for the rewards of the section, without their options."""
    nodes = reward_nodes(section)
    groups = [name for name, node in nodes.items() if node["_target_"] == f"{REWARDS}{name}"]
    chosen = f"'reward=[{','.join(groups)}]'" if len(groups) > 1 else f"reward={(groups or ['default'])[0]}"
    own = [f"{_place(section, name)}._target_={node['_target_']}" for name, node in nodes.items() if name not in groups]
    return " ".join([chosen, *own] if groups or not own else own)


def grader_nodes(section: Values) -> dict[str, Values]:
    """Return the nodes of the graders among the rewards that name their file, by name."""
    nodes = reward_nodes(section)
    return {
        name: node
        for name, node in nodes.items()
        if node["_target_"] == GRADER and node.get("file") not in (None, "???")
    }


def kept_grader(run: Path, number: int) -> Path:
    """Return the file in a run directory with grader `number` of its rewards, as it was when the run was opened."""
    return run / "graders" / f"{number}.json"


def with_kept_graders(section: Values, run: Path) -> dict[str, Values]:
    """Return the nodes of the section by name, those of graders with the files that a run directory keeps of them."""
    nodes = reward_nodes(section)
    for number, (name, node) in enumerate(grader_nodes(section).items()):
        if (kept := kept_grader(run, number)).exists():  # none of a file that could not be read
            nodes[name] = {**node, "file": str(kept)}
    return nodes


def names_target(value: Any) -> bool:
    """Return whether a value is a node, which names a function."""
    return isinstance(value, Mapping) and value.get("_target_") is not None


def build_rewards(config: Config, run: Path | None = None) -> tuple[Reward, ...]:
    """Return the rewards of a configuration; those of a run use the graders that its directory keeps.

    Raises `UserError` for functions outside the allow-list, and for graders with faults.
    """
    nodes = reward_nodes(config.reward) if run is None else with_kept_graders(config.reward, run)
    return tuple(build_reward(name, node, config.allow_targets) for name, node in nodes.items())


def needs_reference(node: Values) -> bool:
    """Return whether a built-in reward compares an answer with the completion of its row."""
    target = str(node.get("_target_"))
    if target == f"{REWARDS}regex":
        return "(?P<answer>" in str(node.get("pattern"))
    return target in (f"{REWARDS}{name}" for name in ("exact_match", "label", "number"))


def reward_metrics(section: Values) -> list[str]:
    """Return the metrics that the rewards add to the scores of generated answers."""
    nodes = reward_nodes(section)
    return ["reward", *(f"reward_{name}" for name in nodes if len(nodes) > 1)] if nodes else []


def build_reward(name: str, node: Values, allowed: Sequence[str]) -> Reward:
    """Return the reward of a node; a grader is read once, here.

    Raises `UserError` for a function that `allowed` does not allow, and for a grader with faults.
    """
    target = str(node["_target_"])
    if not is_allowed(target, (REWARDS, *allowed)):
        message = f"{target!r} may not be used as a reward"
        raise UserError([Fault("config.target", message, trusting(target), column="reward")])
    arguments = {key: value for key, value in node.items() if key not in (*REWARD_OPTIONS, "_target_")}
    function: RewardFunction = partial(locate_function(target), **arguments)
    if target == GRADER:
        grader = read_grader(arguments["file"])
        function, arguments = build_grader(grader), {"grader": grader}
    definition = json.dumps({"function": target, **arguments}, sort_keys=True, default=str)
    fingerprint = hashlib.sha256(definition.encode()).hexdigest()  # arguments may be secrets, and tables are shared
    options = {key: float(node[key]) for key in REWARD_OPTIONS if node.get(key) is not None}
    return Reward(name, function, **options, takes_calls=target == GRADER, fingerprint=fingerprint)


def check_rewards(values: Values) -> Iterator[Fault]:
    """Yield faults of the section `reward`, and of options that training on rewards does not take."""
    section, objective = mapping_at(values, "reward"), mapping_at(values, "objective")
    nodes, name = reward_nodes(section), objective.get("name")
    for key, node in nodes.items():
        place = _place(section, key)
        if len(nodes) > 1 and key in TAKEN:
            message = f"reward_{key} is another metric, so none of several rewards can be called {key!r}"
            yield _fault(message, f"choose another name, such as reward.my_{key}", place)
        for option in REWARD_OPTIONS:
            value = node.get(option)
            good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not (good and (option == "weight" or value > 0)):
                message = f"{place}.{option} is {value!r}, not a number{' above 0' if option == 'timeout' else ''}"
                yield _fault(message, f"correct the value of {place}.{option}", f"{place}.{option}")
    yield from _lost(section, nodes)
    if name not in GENERATING:
        return
    if not nodes:
        fix = (
            "add reward=exact_match if rows have the right answer, or another one such as reward=json_schema,"
            " reward=length or reward._target_=MODULE.FUNCTION"
        )
        yield _fault(f"objective={name} learns from rewards, and there is none", fix, "reward")
    elif all(node.get("weight") == 0 for node in nodes.values()):
        key = f"{_place(section, next(iter(nodes)))}.weight"
        yield _fault(f"objective={name} learns from rewards, and all weights are 0", f"set {key}=1", key)
    yield from _unsupported(values, str(name))


def _lost(section: Values, nodes: Mapping[str, Values]) -> Iterator[Fault]:
    """Yield faults of keys of the section that would be ignored."""
    if section.get("_target_") is None:
        for key, value in section.items():
            if value is not None and not isinstance(value, Mapping):
                message = f"reward.{key} is {value!r}, which is neither a reward nor the key of one"
                fix = f"write the key below its reward: reward.{next(iter(nodes), 'NAME')}.{key}={value}"
                yield _fault(message, fix, f"reward.{key}")
        return
    target = str(section["_target_"])
    name = target.rpartition(".")[2]
    if names_target(section.get(name)):
        message = f"reward._target_ and reward.{name} would both be called {name}"
        yield _fault(message, f"write reward.my_{name}._target_={target} in place of the first", "reward._target_")


def _place(section: Values, name: str) -> str:
    """Return the key of a node of `reward_nodes`."""
    return f"reward.{name}" if name in section else "reward"


def _unsupported(values: Values, name: str) -> Iterator[Fault]:
    objective, adapter, trainer = (mapping_at(values, key) for key in ("objective", "adapter", "trainer"))
    mode = mapping_at(values, "score").get("mode", "generate")
    if mode in ("labels", "reference"):
        message = f"score.mode={mode} generates no answers for the test split, so its rows would have no rewards"
        yield _fault(message, f"leave it out: objective={name} sets score.mode=generate", "score.mode")
    if objective.get("kl_weight") and adapter.get("kind") != "full" and adapter.get("init", "default") != "default":
        message = f"objective.kl_weight needs the model before training, which adapter.init={adapter['init']} changes"
        yield _fault(message, "set objective.kl_weight=0, or adapter.init=default", "objective.kl_weight")
    strategy = str(trainer.get("strategy", "")).lower()
    if "zero" in strategy or "deepspeed" in strategy:
        message = f"objective={name} is not supported with DeepSpeed"
        yield _fault(message, "choose trainer=fsdp, or trainer=ddp", "trainer.strategy")
    if values.get("label_smoothing"):
        message = f"label_smoothing is set, but objective={name} has no targets to smooth"
        yield _fault(message, "leave it out", "label_smoothing")
    if str(trainer.get("precision")) == "16-mixed" and objective.get("updates", 1) != 1:
        message = "objective.updates above 1 cannot scale its gradients for trainer.precision=16-mixed"
        yield _fault(message, "choose trainer.precision=bf16-mixed, or objective.updates=1", "objective.updates")


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("config.value", message, fix, column=key)

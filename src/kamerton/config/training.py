"""Training options that contradict each other or would do nothing: reported instead of ignored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kamerton.config.derived import watches
from kamerton.config.hosted import check_hosted
from kamerton.config.objective import check_objective
from kamerton.config.rewards import check_rewards
from kamerton.config.schema import mapping_at
from kamerton.config.validation import check_validation
from kamerton.direction import COMPARED, JUDGED, mode_of
from kamerton.errors import Fault
from kamerton.files import leads_out
from kamerton.words import did_you_mean


def check_training(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of the training sections taken together; the schema reports wrong types."""
    faults = list(_scheduler(mapping_at(values, "scheduler")))
    cut = mapping_at(values, "batch").get("cut", "tree")
    if mapping_at(values, "model").get("attn") is not None and cut != "padded":
        faults.append(_unused("model.attn", f"batch.cut={cut}, which has its own attention", "choose batch.cut=padded"))
    faults += [
        *check_objective(values),
        *_adapter(values),
        *_matmul(values),
        *_trained_format(values),
        *_strategy(values),
        *_averaging(values),
        *_callbacks(mapping_at(values, "callbacks"), mapping_at(values, "metrics")),
        *check_validation(values),
        *_folds(values),
        *check_rewards(values),
        *_intervals(values),
    ]
    options = mapping_at(values, "score")
    mode, used = options.get("mode", "auto"), mapping_at(values, "eval").get("score") == "labels"
    for key, default in (("labels", "exact"), ("normalization", "sum"), ("content_free", None)):
        if mode not in ("auto", "labels") and not used and options.get(key, default) != default:
            faults.append(_unused(f"score.{key}", f"score.mode={mode}", "choose score.mode=labels, or leave it out"))
    generates = mode in ("auto", "generate") or mapping_at(values, "eval").get("score") == "generate"
    if options.get("quantize") is not None and not generates:
        faults.append(_unused("score.quantize", f"score.mode={mode}", "choose score.mode=generate, or leave it out"))
    return [*faults, *_monitor(mapping_at(values, "monitor")), *check_hosted(values)]


def _monitor(options: Mapping[str, Any]) -> Iterator[Fault]:
    from kamerton.monitor.codes import CODES

    for key in ("ignore", "stop_on"):
        codes = options.get(key)
        for code in codes if isinstance(codes, list) else []:
            if code not in CODES:
                yield Fault(
                    "config.value",
                    f"monitor.{key} has {code!r}, which no detector finds",
                    did_you_mean(str(code), CODES),
                    column=f"monitor.{key}",
                )


def _scheduler(options: Mapping[str, Any]) -> Iterator[Fault]:
    name, ratio = options.get("name", "linear"), options.get("warmup_ratio")
    if options.get("warmup_steps") is not None and ratio is not None:
        message = "scheduler.warmup_steps and scheduler.warmup_ratio are both given"
        yield _fault(message, "give one of them", "scheduler.warmup_ratio")
    if options.get("min_ratio") and name not in ("cosine", "wsd"):
        yield _unused("scheduler.min_ratio", f"scheduler={name}", "choose scheduler=cosine or scheduler=wsd")
    decay = options.get("decay_ratio", 0.1)
    if name == "wsd" and _is_number(ratio) and _is_number(decay) and ratio + decay > 1:
        message = (
            f"scheduler.warmup_ratio and scheduler.decay_ratio are {ratio} and {decay}: together more than all steps"
        )
        yield _fault(message, "choose shares whose sum is at most 1", "scheduler.decay_ratio")


def _adapter(values: Mapping[str, Any]) -> Iterator[Fault]:
    options = mapping_at(values, "adapter")
    kind = options.get("kind", "lora")
    if kind == "full":
        for key in _LORA_ONLY:
            if options.get(key, _LORA_ONLY[key]) != _LORA_ONLY[key]:
                yield _unused(f"adapter.{key}", "adapter=full", "choose adapter=lora, or leave it out")
    elif options.get("freeze"):
        yield _unused("adapter.freeze", f"adapter={kind}", "leave it out: an adapter freezes the whole model")
    if kind != "qlora":
        return
    if options.get("init", "default") != "default":
        message = f"adapter.init={options['init']} needs the whole weights, and adapter=qlora keeps them in 4 bits"
        yield _fault(message, "choose adapter.init=default, or adapter=lora", "adapter.init")
    if mapping_at(values, "model").get("adapter") is not None:
        message = "model.adapter is merged into the model first, and a model in 4 bits cannot take it in without loss"
        yield _fault(message, "choose adapter=lora, or give a model that is merged already", "model.adapter")
    if mapping_at(values, "model").get("export") == "merged":
        message = "model.export is merged, but a model in 4 bits cannot take an adapter in without loss"
        yield _fault(message, "choose model.export=adapter, and merge into the whole model afterwards", "model.export")


def _matmul(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of model.matmul=bfloat16 where the kernels that multiply so are not used."""
    model, kind = mapping_at(values, "model"), mapping_at(values, "adapter").get("kind", "lora")
    precision = mapping_at(values, "trainer").get("precision")
    if model.get("matmul", "float32") != "bfloat16":
        return
    reasons = {
        "model.fused=false": model.get("fused", True) is False,
        "model.compile=true": model.get("compile", False) is True,
        f"model.dtype={model.get('dtype')}": model.get("dtype", "float32") != "float32",
        f"trainer.precision={precision}": precision not in (None, 32, "32", "32-true"),
        "adapter=qlora": kind == "qlora",
    }
    for reason in (reason for reason, applies in reasons.items() if applies):
        yield _unused("model.matmul", reason, "leave one of them out")


def _trained_format(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of trained weights with 16 bits: most updates are smaller than the spacing of their numbers."""
    dtype, adapter = mapping_at(values, "model").get("dtype", "float32"), mapping_at(values, "adapter")
    precision, trains_all = mapping_at(values, "trainer").get("precision"), adapter.get("kind", "lora") == "full"
    if precision in ("bf16-true", "16-true"):
        message = f"trainer.precision={precision} rounds trained weights to 16 bits, where small updates vanish"
        half = "bfloat16" if precision == "bf16-true" else "float16"
        fix = "trainer.precision=bf16-mixed, whose weights stay in float32"
        lora = f"trainer.precision=32-true model.dtype={half}, where LoRA's weights stay in float32"
        yield _fault(message, f"choose {fix if trains_all else lora}", "trainer.precision")
    elif dtype in ("bfloat16", "float16") and (trains_all or adapter.get("modules_to_save")):
        what = "adapter=full trains" if trains_all else "adapter.modules_to_save trains"
        message = f"{what} weights with 16 bits (model.dtype={dtype}), where small updates vanish"
        fix = "choose model.dtype=float32 trainer.precision=bf16-mixed, which computes in bfloat16"
        yield _fault(message, fix, "model.dtype")


_LORA_ONLY = {"rslora": False, "dora": False, "init": "default", "lr_ratio": 1.0, "modules_to_save": []}


_UNFIT = ("BatchSizeFinder", "LearningRateFinder", "GradientAccumulationScheduler")


def _callbacks(callbacks: Mapping[str, Any], custom: Collection[str]) -> Iterator[Fault]:
    """Faults of callbacks: a wrong mode, or best weights that would be lost. `custom` are names of metrics."""
    for name, node in callbacks.items():
        if not isinstance(node, Mapping):
            continue
        kind = str(node.get("_target_", "")).rpartition(".")[2]
        monitor = node.get("monitor")
        yield from _direction(name, node, monitor, custom)
        if kind in _UNFIT:
            message = f"callbacks.{name} is a {kind}, and a run lays its optimizer steps out itself"
            yield _fault(message, "leave it out; batch.size and batch.max_tokens set a step", f"callbacks.{name}")
    yield from _best_file(mapping_at(callbacks, "checkpoint_best"))


def _direction(name: str, node: Mapping[str, Any], monitor: Any, custom: Collection[str]) -> Iterator[Fault]:
    """Faults of early stopping and checkpoints whose mode would keep the worst."""
    if not watches(node) or not isinstance(monitor, str):
        return
    key, mode, right = f"callbacks.{name}.mode", node.get("mode"), mode_of(monitor)
    logged = (*custom, *COMPARED, *JUDGED)
    if mode is None and right is None and (not monitor.startswith("val/") or monitor[4:] in logged):
        message = f"callbacks.{name} monitors {monitor!r}, and whether more or less of it is better is unknown"
        yield _fault(message, f"set {key}=max or {key}=min", key)
    elif right is not None and mode in ("min", "max") and mode != right:
        better = "more" if right == "max" else "less"
        message = f"{key} is {mode}, but {better} of {monitor} is better"
        yield _fault(message, f"set {key}={right}, or leave it out: it follows from the metric", key)


def _best_file(node: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of options with which the best weights would be lost."""
    place, filename = "callbacks.checkpoint_best", node.get("filename")
    if node.get("save_top_k", 1) != 1:
        message = f"{place}.save_top_k must be 1: the run scores and exports the best weights"
        fix = "add a ModelCheckpoint of your own for further ones, with another name and filename"
        yield _fault(message, fix, f"{place}.save_top_k")
    if not isinstance(filename, str):
        return
    if leads_out(filename):
        message = f"{place}.filename is {filename!r}, which leads out of the run's checkpoints"
        yield _fault(message, f"set {place}.filename=best", f"{place}.filename")
    elif filename in ("last", "previous"):
        message = f"{place}.filename is {filename!r}, the name of the checkpoint that a run is resumed from"
        yield _fault(message, f"set {place}.filename=best", f"{place}.filename")


def _folds(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of options that cross-validation sets for its runs itself."""
    folds, split = mapping_at(values, "cv").get("folds"), mapping_at(values, "split")
    if folds is None:
        return
    for key in ("folds", "time"):
        if split.get(key) is not None:
            message = f"cv.folds and split.{key} are both given"
            yield _fault(message, f"leave out split.{key}, or cv.folds", f"split.{key}")
    if values.get("resume") == "force":
        message = "resume=force would average folds of different configurations"
        yield _fault(message, "give another run_id for a new cross-validation", "resume")


def _intervals(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of a share of an epoch given as a number of steps."""
    for section in ("eval", "save"):
        options = mapping_at(values, section)
        every = options.get("every", 1)
        if options.get("strategy") == "steps" and isinstance(every, float) and every < 1:
            message = f"{section}.every is {every}, a share of an epoch, but {section}.strategy is steps"
            yield _fault(message, f"choose {section}.strategy=epoch, or a whole number of steps", f"{section}.every")


def _strategy(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of Lightning's own sharded strategies: only Kamerton's keep steps and checkpoints exact."""
    strategy = mapping_at(values, "trainer").get("strategy", "")
    node = isinstance(strategy, Mapping)
    name = str(strategy.get("_target_") if node else strategy)
    foreign = name.startswith("pytorch_lightning.") or not node
    if foreign and any(word in name.lower() for word in ("fsdp", "deepspeed", "modelparallel")):
        message = f"trainer.strategy is {name}, for which the steps and checkpoints of a run are not made"
        yield _fault(message, "choose trainer=fsdp or trainer=deepspeed", "trainer.strategy")


def _averaging(values: Mapping[str, Any]) -> Iterator[Fault]:
    schedule_free = str(mapping_at(values, "optimizer").get("_target_")).startswith("schedulefree.")
    strategy = str(mapping_at(values, "trainer").get("strategy", "")).lower()
    is_sharded = any(name in strategy for name in ("fsdp", "shard", "zero", "deepspeed", "modelparallel"))
    if (schedule_free or values.get("ema_decay") is not None) and is_sharded:
        message = "averaged weights (ema_decay, optimizer=schedule_free) need the whole weights in each process"
        yield _fault(message, "choose trainer=ddp, or remove them", "trainer.strategy")
    if not schedule_free:
        return
    name = mapping_at(values, "scheduler").get("name", "linear")
    if name != "constant":
        message = f"scheduler is {name}, but a schedule-free optimizer takes the place of a falling learning rate"
        yield _fault(message, "choose scheduler=constant (its warm-up stays)", "scheduler.name")
    if values.get("ema_decay") is not None:
        message = "ema_decay is set, but a schedule-free optimizer keeps its own average"
        yield _fault(message, "leave out ema_decay, or choose optimizer=adamw", "ema_decay")


def _unused(key: str, where: str, fix: str) -> Fault:
    return _fault(f"{key} is set, but does nothing with {where}", fix, key)


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("config.value", message, fix, column=key)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)

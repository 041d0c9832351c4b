"""The results of the training benchmark as a section of a Markdown file, between two markers."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from train_tasks import SIDES, TASKS

BEGIN, END = "<!-- bench-train: begin -->", "<!-- bench-train: end -->"
HEADS = ["side", "examples/s", "Kamerton's speed over it", "peak, MiB", "Kamerton's peak over it", "loss", "start, s"]
NOT_PEERS = ("kamerton", "kamerton-bfloat16", "kamerton-lean", "plain")
FORMATS = ("kamerton", "kamerton-bfloat16")  # the number formats that Kamerton was measured in
Runs = dict[str, dict[int, dict[str, Any]]]  # side → repeat → run


def render(results: dict[str, Any], path: Path) -> None:
    """Rewrite the section between the markers of `path`, or add it at the end where there are none."""
    text = path.read_text() if path.exists() else ""
    section = f"{BEGIN}\n{body(results)}\n{END}"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        path.write_text(before + section + rest.partition(END)[2])
    else:
        path.write_text(f"{text.rstrip()}\n\n{section}\n")


def body(results: dict[str, Any]) -> str:
    """The whole section: one table for each task that was measured."""
    others = max((run["others"] for run in results["runs"]), default=0.0)
    parts = [HEAD.format(**results["machine"], others=f"{100 * others:.0f}")]
    for task in TASKS:
        runs: Runs = {}
        for run in results["runs"]:
            if run["task"] == task:
                runs.setdefault(run["side"], {})[run["repeat"]] = run
        if runs:
            parts.append(table(task, runs, results["base"].get(task)))
    parts += [limits_table(name, rows) for name, rows in results["limits"].items()]
    return "\n\n".join(parts)


def table(task: str, runs: Runs, base: float | None) -> str:
    """One task: a line for each side, fastest first, and what it comes to."""
    rows = [row(side, runs) for side in sorted(runs, key=lambda side: -speed(runs[side]))]
    any_run = next(iter(next(iter(runs.values())).values()))
    size = f"{any_run['steps']} steps of {TASKS[task].batch} rows"
    shape = f"{any_run['tokens']:.1f} tokens a row, {any_run['targets']:.1f} of them targets"
    before = "" if base is None else f"; held-out loss before training {base:.3f}"
    return f"### {TASKS[task].title}\n\n{size}; {shape}{before}.\n\n{markdown(HEADS, rows)}\n\n" + verdict(task, runs)


def row(side: str, runs: Runs) -> list[str]:
    own, repeats = runs.get("kamerton", {}), list(runs[side].values())
    times = [own[n]["examples_per_s"] / run["examples_per_s"] for n, run in runs[side].items() if n in own]
    memory = [own[n]["peak_mib"] / run["peak_mib"] for n, run in runs[side].items() if n in own]
    same = side == "kamerton" or not times
    return [
        SIDES[side][3],
        spread([run["examples_per_s"] for run in repeats]),
        "" if same else spread(times),
        f"{median(run['peak_mib'] for run in repeats):,.0f}",
        "" if same else f"{median(memory):.2f}",
        f"{median(run['loss'] for run in repeats):.3f}",
        f"{median(run['start_s'] for run in repeats):.1f}",
    ]


def verdict(task: str, runs: Runs) -> str:
    """Kamerton in its faster format against the best peer of each repeat, next to what is aimed at."""
    times = max((against_best(runs, side) for side in FORMATS), key=lambda ratios: median(ratios or [0.0]))
    if not times:
        return "No peer was measured beside Kamerton."
    met = "reached" if median(times) >= TASKS[task].target else "missed"
    return (
        "Kamerton's faster format against the fastest peer in its fastest format in each repeat: "
        f"**{spread(times)} times** in {len(times)} repeat{'s' * (len(times) > 1)}; "
        f"aimed at {TASKS[task].target}, {met}."
    )


def against_best(runs: Runs, side: str) -> list[float]:
    """The speed of one of Kamerton's sides over the fastest peer's, for each repeat that has both."""
    ratios = []
    for repeat, own in runs.get(side, {}).items():
        peers = [run[repeat]["examples_per_s"] for side, run in runs.items() if side not in NOT_PEERS and repeat in run]
        if peers:
            ratios.append(own["examples_per_s"] / max(peers))
    return ratios


def speed(runs: dict[int, dict[str, Any]]) -> float:
    return median(run["examples_per_s"] for run in runs.values())


def spread(values: list[float]) -> str:
    """median [least, most]; a single value alone."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def limits_table(name: str, rows: list[list[str]]) -> str:
    """A table of `limits.py`."""
    text, head = LIMITS[name]
    return f"{text}\n\n{markdown(head, rows)}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


LIMITS = {
    "flops": (
        """\
### Share of the machine's limit

    python scripts/bench/limits.py flops --data FOLDER

FLOPs of a full fine-tune over the time of its steps, optimizer and all, next to what `torch.mm` reaches in float32
in the same process: over exactly the matrix products of one pass, forward and backward, and over squares of 2,048.
For a pass of T computed tokens and C distinct target positions, 6 T N + 12 H D L S + 6 C h V: N weights in the
matrices of L layers, H heads of dimension D, S the sum over tokens of how many each attends to, hidden size h,
vocabulary V. Tokens that examples share are computed, and counted, once.""",
        [
            "task",
            "tokens a pass",
            "training, GFLOP/s",
            "its GEMMs",
            "squares",
            "share of its GEMMs",
            "share of squares",
        ],
    ),
    "overhead": (
        """\
### What the framework costs

    python scripts/bench/limits.py overhead --data FOLDER

After each step of `kamerton train` (trainer, default callbacks, CSV logger) a bare loop takes the same step on a
copy of the model, in the same process, with the same functions. The overhead is the median over the steps of one
time over the other, and of that the median over the repeats.""",
        ["task", "trainer, ms/step", "bare loop, ms/step", "overhead, %"],
    ),
    "size": (
        """\
### Cost against size

    python scripts/bench/limits.py size

The tiny model in steps of 8 over more and more generated rows, each size in its own process, from the
beginning of training: the data are read and encoded already, the epoch is not yet planned.""",
        ["rows", "examples/s after the first step", "first step, s", "peak memory, MiB"],
    ),
}

HEAD = """\
## Training next to the peers

    scripts/bench/peers.sh                                       # their environments, once
    make bench-train DATA=FOLDER                                 # python scripts/bench/train.py --data FOLDER

SmolLM2-135M-Instruct in float32 with {threads} threads on {cores} cores ({cpu}), Python {python}, torch {torch};
{date}. Peers: TRL 1.16.0 with transformers 5.23.0, LLaMA-Factory 0.9.5 with transformers 5.6.0, LitGPT 0.5.13, each
in its own environment, with the fastest flags found for it (gradient checkpointing off; the table names the rest)
and as it comes. Every side trains one whole epoch on the same rows with the model's own template and its system
prompt, loss on the completion alone, the same number of rows a step, AdamW (fused, no weight decay), one warm-up
step and a cosine; LoRA r = 16, alpha = 32 on all linear layers at 1e-4, or every weight at 1e-5. Token and target
counts are checked to be equal. Each draws its own order; `group_by_length` puts rows of like length into one step,
the others draw at random. LitGPT gets its token ids ready-made, clips no gradients and has an untied head. Kamerton
is `kamerton train` with its default callbacks and CSV logger.

examples/s counts every row from before the first batch to the end of the last optimizer step. Peak memory is the
process's VmHWM at that moment. The loss is of held-out rows after training, computed by one program for all. Start
is the time from launching the process to the end of the first step. Sides take turns within each repeat, each in a
process of its own: median [least, most], ratios taken repeat by repeat. Other processes took at most {others} % of
the machine's processor time during a measurement."""

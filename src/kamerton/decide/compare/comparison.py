"""What a comparison says: sides, differences with their tests, slices, examples, warnings and the gate.

Plain values only, so that `comparison.json` is the whole of it: `write` writes that file, `read` gives it back. A side
is one configuration: one run, or several that differ in their seed alone. Differences are candidate minus baseline.
Whatever is undefined is None.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from kamerton.files import write_text

FILE = "comparison.json"

Verdict = Literal["better", "worse", "no difference shown", "not tested"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric of one side: the mean over its runs, with a 95 % interval.

    `by_run` has the value of each run, `spread` their standard deviation (None for a single run). With several runs the
    interval covers both the choice of examples and the choice of seeds.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    by_run: tuple[float | None, ...] = ()
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """A baseline or a candidate. `runs` are paths; `seeds` their seeds (None: no trained run, or unknown)."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    metrics: dict[str, Estimate]
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One candidate against the baseline in one metric.

    `low` and `high` bound the 95 % interval of the difference. `p` is two-sided, `p_worse` one-sided (small
    where the candidate is worse), `p_holm` the two-sided one corrected (Holm) over all candidates for this metric; the
    verdict follows `p_holm` at 5 %. `effect` is Cohen's g where `effect_name` says so
    (share of changed answers that were fixed, minus one half), else the standardised paired difference; both are
    positive where the candidate's value is higher. `fixed` and `broken` count examples, of metrics of right and wrong
    answers alone; `odds_ratio` is fixed / broken. `detectable` is the smallest difference that this test set would have
    shown with 80 % power at the 5 % level. `sure_drop` is by how much the candidate is worse at least, with 95 %
    confidence (negative: it may be better).
    """

    candidate: str
    metric: str
    baseline_value: float | None
    value: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    test: str | None = None
    p: float | None = None
    p_worse: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    effect_name: str | None = None
    odds_ratio: float | None = None
    fixed: int | None = None
    broken: int | None = None
    detectable: float | None = None
    sure_drop: float | None = None
    lower_is_better: bool = False
    verdict: Verdict = "no difference shown"


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the test set under one candidate and the baseline, in one metric.

    `field` names what the examples are grouped by (a metadata field, `label`, `prompt_length`, `seen_in_training`),
    `group` the value. `low` and `high` bound the candidate's value. `p_rest` asks whether the candidate does otherwise
    here than on all other examples, `p` whether it does otherwise than the baseline here, `p_worse` (one-sided) whether
    it is worse than the baseline here; all are corrected (Holm) over the groups of the field. `verdict` speaks of
    candidate against baseline.
    """

    candidate: str
    field: str
    group: str
    metric: str
    examples: int
    baseline_value: float | None
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_rest: float | None
    p: float | None
    p_worse: float | None = None
    sure_drop: float | None = None
    lower_is_better: bool = False
    verdict: Verdict = "no difference shown"


@dataclass(frozen=True, slots=True)
class ConfusionPair:
    """How often examples labelled `true` were answered `predicted`, by the baseline and by the candidate.

    Means over the runs of a side.
    """

    candidate: str
    true: str
    predicted: str
    baseline_count: float
    count: float


@dataclass(frozen=True, slots=True)
class Changed:
    """Examples on which a candidate's first run and the baseline's first run differ.

    `fixed` (wrong before, right now), `broken` (the reverse) and `moved` (greatest change in how likely the reference
    is, right or wrong) hold the first few rows `{example_id, prompt, target, before, answer, p_answer, p_target, nll,
    nll_before}`; the counts are of all.
    """

    candidate: str
    fixed_count: int
    broken_count: int
    fixed: tuple[Row, ...] = ()
    broken: tuple[Row, ...] = ()
    moved: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a careful reader should know; `subject` is the side it is about (None: the comparison)."""

    code: str
    message: str
    advice: str = ""
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One limit of the gate. `drop` is how much worse the candidate is, `allowed` how much is allowed."""

    candidate: str
    metric: str
    drop: float | None
    allowed: float
    p: float | None
    passed: bool
    reason: str
    field: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """One expectation of a golden prompt on one side. `source` is file:line of the golden file."""

    side: str
    prompt: str
    expectation: str
    answer: str | None
    passed: bool
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What the regression gate says: it passed if every check did."""

    checks: tuple[GateCheck, ...] = ()
    golden: tuple[GoldenCheck, ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks) and all(check.passed for check in self.golden)


@dataclass(frozen=True, slots=True)
class Comparison:
    """n candidates against a baseline on the same examples; the baseline is the first side.

    `verdicts` has one sentence for each candidate, in their order. `gate` is None where no gate was asked for.
    """

    name: str
    split: str
    examples: int
    sides: tuple[Side, ...]
    differences: tuple[Difference, ...] = ()
    verdicts: dict[str, str] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    confusions: tuple[ConfusionPair, ...] = ()
    changed: tuple[Changed, ...] = ()
    notices: tuple[Notice, ...] = ()
    gate: Gate | None = None
    created: str = ""
    version: int = 1

    @property
    def baseline(self) -> Side:
        return self.sides[0]

    @property
    def candidates(self) -> tuple[Side, ...]:
        return self.sides[1:]


def write(comparison: Comparison, folder: Path) -> Path:
    """Write `comparison.json` into `folder` (made if missing) and return its path. What is not finite becomes null."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(asdict(comparison)), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / FILE, text + "\n")
    return folder / FILE


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(folder: Path) -> Comparison:
    """The comparison that `write` wrote into `folder`; raises pydantic's `ValidationError` for another content."""
    return TypeAdapter(Comparison).validate_json((folder / FILE).read_bytes())

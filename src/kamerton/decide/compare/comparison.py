"""The result of a comparison: configurations, differences with their tests, slices, examples, notices and the gate.

Only plain values, so that `comparison.json` holds all of them: `write` writes that file, `read` reads it back. A
configuration (a "side" in the file's keys) is one run, or several runs that differ only in their seed. Differences are
candidate minus baseline. Undefined values are None.
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
    """One metric of one configuration: the mean over its runs, with a 95 % interval.

    `by_run` has the value of each run, `spread` their standard deviation (None for a single run). With several runs the
    interval covers both the choice of examples and the choice of seeds.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    by_run: tuple[float | None, ...] = ()
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The baseline or a candidate. `runs` are paths, `seeds` their seeds (None: not trained, or unknown)."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    metrics: dict[str, Estimate]
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One candidate against the baseline in one metric.

    - `low`, `high`: bounds of the 95 % interval of the difference.
    - `p`: two-sided p-value; `p_worse`: one-sided, small if the candidate is worse; `p_holm`: the two-sided one
      corrected (Holm) over all candidates for this metric. The verdict follows `p_holm` at the 5 % level.
    - `effect`: Cohen's g (share of changed answers that were fixed, minus one half) or the standardised paired
      difference, as `effect_name` states. Both are positive if the candidate's value is higher.
    - `fixed`, `broken`: numbers of examples, only for metrics of correct and wrong answers; `odds_ratio` is
      fixed / broken.
    - `detectable`: the smallest difference that this test set shows with 80 % power at the 5 % level.
    - `sure_drop`: the candidate is worse by at least this much, with 95 % confidence (negative: it may be better).
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
    """One candidate against the baseline in one metric, on a slice of the test set.

    `field` is what the examples are grouped by (a metadata field, `label`, `prompt_length`, `seen_in_training`),
    `group` its value. `low` and `high` bound the candidate's value. `p_rest` tests the candidate here against the
    candidate on all other examples, `p` the candidate against the baseline here, and `p_worse` (one-sided) whether it
    is worse than the baseline here; all are corrected (Holm) over the groups of the field. `verdict` is about candidate
    against baseline.
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

    Counts are means over the runs of a configuration.
    """

    candidate: str
    true: str
    predicted: str
    baseline_count: float
    count: float


@dataclass(frozen=True, slots=True)
class Changed:
    """Examples on which a candidate's first run and the baseline's first run differ.

    `fixed` (wrong before, correct now), `broken` (the reverse) and `moved` (largest change of the reference's
    likelihood) hold the first few rows `{example_id, prompt, target, before, answer, p_answer, p_target, nll,
    nll_before}`; `fixed_count` and `broken_count` count all of them.
    """

    candidate: str
    fixed_count: int
    broken_count: int
    fixed: tuple[Row, ...] = ()
    broken: tuple[Row, ...] = ()
    moved: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """A caveat about the comparison; `subject` is the configuration concerned (None: all of them)."""

    code: str
    message: str
    advice: str = ""
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One limit of the gate: the candidate's `drop`, and how much is `allowed`."""

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
    """One expectation of a golden prompt for one configuration. `source` is file:line of the golden file."""

    side: str
    prompt: str
    expectation: str
    answer: str | None
    passed: bool
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Gate:
    """The result of the regression gate; it passes if every check passes."""

    checks: tuple[GateCheck, ...] = ()
    golden: tuple[GoldenCheck, ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks) and all(check.passed for check in self.golden)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidates against a baseline on the same examples; the baseline is the first of `sides`.

    `verdicts` has one sentence per candidate, in their order. `gate` is None if no gate was requested.
    """

    name: str
    split: str
    examples: int
    sides: tuple[Configuration, ...]
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
    def baseline(self) -> Configuration:
        return self.sides[0]

    @property
    def candidates(self) -> tuple[Configuration, ...]:
        return self.sides[1:]


def write(comparison: Comparison, folder: Path) -> Path:
    """Write `comparison.json` into `folder` (created if missing), with null for non-finite numbers; return its path."""
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
    """Read the comparison that `write` wrote into `folder`; raises pydantic's `ValidationError` if it is malformed."""
    return TypeAdapter(Comparison).validate_json((folder / FILE).read_bytes())

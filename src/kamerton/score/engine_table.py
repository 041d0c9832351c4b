"""The score table of an external engine, which returns texts without token probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from kamerton.data.encode.each_turn import has_functions
from kamerton.data.example import DataExample
from kamerton.score.evaluate import decoding_of
from kamerton.score.generate.answers import GeneratedRow, make_prompts
from kamerton.score.generate.external import answered_table
from kamerton.score.generate.hosted import hosted_answers
from kamerton.score.generate.read import AnswerReader
from kamerton.score.generate.vllm import vllm_answers
from kamerton.score.options import EvaluateOptions
from kamerton.score.target import Target
from kamerton.score.test_set import TestSet


def engine_table(
    options: EvaluateOptions,
    target: Target,
    tests: TestSet,
    partial: Path,
    advance: Callable[[int], None],
    console: Console,
) -> pa.Table:
    """Return the table of an engine that only returns texts, without token probabilities."""
    decoding, model = decoding_of(target.config.score), target.config.model

    def ask(pending: list[tuple[int, DataExample]]) -> Iterable[dict[int, GeneratedRow]]:
        if options.engine.kind == "hosted":
            calls = has_functions(tests.examples)
            return hosted_answers(pending, model.name, options.engine, decoding, calls=calls)
        prompts, ends = make_prompts(None, tests.tokenizer, tests.encoded, None)  # type: ignore[arg-type]
        read = AnswerReader(tests.tokenizer, tests.encoded, prompts, ends)  # type: ignore[arg-type]
        positions = [position for position, _ in pending]

        def read_pending(i: int, tokens: Sequence[int]) -> GeneratedRow:
            return read(positions[i], tokens)

        answers = vllm_answers([prompts[i] for i in positions], model, decoding, read_pending, ends=ends)
        return [dict(zip(positions, answers, strict=True))]

    table, reused = answered_table(
        tests.examples,
        tests.labels,
        ask,
        partial,
        (options.engine.kind, options.engine.url, model.name, tests.examples.fingerprint, decoding),
        advance,
    )
    if reused:
        console.print(f"{reused:,} answers of an earlier command are reused; set name=… to generate new ones")
    return table

"""The columns of a score table: names and types from its schema, meanings from here."""

from __future__ import annotations

from kamerton.score.table import all_fields

MEANINGS = {
    "example_id": "hash of the example's contents; comparisons join tables by it",
    "prompt": "the prompt, one line per turn of a chat",
    "target": "the reference completion",
    "prediction": "the generated answer; null if nothing was generated",
    "label": "the reference label; null for free text",
    "predicted_label": "the predicted label; null if the answer is not a label",
    "label_logprobs": "log p(label given prompt) of every label in nats, in the order of `labels` in the schema",
    "nll": "negative log-likelihood of the target in nats, summed over its tokens; null without probabilities",
    "target_tokens": "number of target tokens",
    "correct_tokens": "target tokens ranked first, given the true tokens before them; null without probabilities",
    "metadata": "the metadata of the example, as JSON",
    "finish_reason": "`stop` (end of turn, or a whole label) or `length` (limit of new tokens); null if not generated",
    "target_calls": "the reference's calls, a JSON list of `{name, arguments}`; null for a row without functions",
    "predicted_calls": "the calls of the answer, in the same form; an invalid one is `{name, invalid}` with its text."
    " null: not judged, because the reference's calls cannot be read back from the text of the chat template",
    "target_reasoning": "the reasoning of the reference; null without any",
    "prediction_reasoning": "the reasoning of the answer; null without any",
    "generated": "the whole answer as generated; null if `prediction` is all of it",
}


def scores_page() -> str:
    """The page `reference/scores.md`."""
    fields = all_fields()
    if unknown := {field.name for field in fields} ^ set(MEANINGS):
        raise SystemExit(
            f"the columns of score tables and scripts/reference_pages/scores.py differ in {sorted(unknown)}"
        )
    rows = [
        f"| `{field.name}` | {field.type} | {'yes' if field.nullable else 'no'} | {MEANINGS[field.name]} |"
        for field in fields
    ]
    parts = [
        "# Score table",
        "Generated from the schema in `src/kamerton/score/table.py`. `scores/*.parquet` has one row per example,"
        " from which every metric is computed: `pyarrow.parquet.read_table(path)`, or"
        " `kamerton.score.table.read_scores(path)`, which also reads tables of earlier versions.",
        "\n".join(["| column | type | may be null | meaning |", "| --- | --- | --- | --- |", *rows]),
        "The last five columns are only in tables of data with functions, calls or reasoning, and only those with a"
        " value. `target` and `prediction` are then contents alone, without reasoning and calls.",
        "Tables of preferences have a row for each pair, whose `target`, `nll` … are those of the chosen completion,"
        " and `rejected`, `rejected_nll`, `rejected_tokens`, `reference_logprob`, `rejected_reference_logprob`"
        " (log-probabilities by the reference, in nats; null without one). Completions that are judged one by one have"
        " a row each, with `desired`, `reference_logprob` and `reference_point` (the reward above which a completion"
        " is a gain for KTO). The schema's metadata hold `beta`, which scales rewards.",
        "A custom metric with one number per example adds a column `metric:NAME`"
        " ([how-to/metrics.md](../how-to/metrics.md)). The schema's metadata hold `labels`, the labels as JSON.",
    ]
    return "\n\n".join(parts) + "\n"

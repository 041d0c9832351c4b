"""Exports of annotation programs (Label Studio, Argilla) as columns: what was annotated, and the answer to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kamerton.errors import Fault

PROMPTS = ("prompt", "question", "query", "instruction", "input", "text", "sentence", "messages")
ANSWERS = ("completion", "response", "answer", "output", "target", "label", "category", "class", "intent")
ENTITIES = "entities"  # column of the marked parts of a text, with their labels
DROP = "to leave such rows out, data.policy.bad-export=drop"

Record = Mapping[str, Any]
Answers = dict[str, Any]


def read_label_studio(record: Record) -> Record | Fault:
    """Return the columns of a task of Label Studio with the answer of its annotation."""
    data, annotations = record["data"], record["annotations"]
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        return record
    answers: list[Answers] = []
    for annotation in annotations:
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled") or not annotation.get("result"):
            continue
        values: Answers = {}
        for item in annotation["result"]:
            value = _label_studio_value(item)
            if value is None and (span := _label_studio_span(item)):
                values[ENTITIES] = [*values.get(ENTITIES, ()), span]
                continue
            if value is None:
                kind = item.get("type") if isinstance(item, Mapping) else item
                message = f"annotations of the type {kind} mark a part of the task, and are no answer to it"
                fix = "export the project with choices, a text area, a taxonomy or a rating"
                return Fault("bad-export", message, fix, column="annotations")
            name = str(item.get("from_name") or "label")
            values[name] = value if name not in values else [*_as_list(values[name]), *_as_list(value)]
        answers.append(values)
    return _joined(data, answers, {"id": record.get("id")}, "annotations")


def _label_studio_value(item: Any) -> Any:
    """Return the answer in one result: a text, a number, or a list of several; None if it is none."""
    value = item.get("value") if isinstance(item, Mapping) else None
    if not isinstance(value, Mapping) or "start" in value or "x" in value:
        return None
    if isinstance(value.get("taxonomy"), list):
        paths = [" / ".join(map(str, path)) for path in value["taxonomy"] if isinstance(path, list)]
        return paths[0] if len(paths) == 1 else paths
    for key in ("choices", "text", "rating", "number"):
        inner = value.get(key)
        if inner is not None:
            return inner[0] if isinstance(inner, list) and len(inner) == 1 else inner
    return None


def _label_studio_span(item: Any) -> Record | None:
    """Return the text and the label of a marked part of a text; None for parts without both."""
    value = item.get("value") if isinstance(item, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        return None
    labels = next((value[key] for key in value if key.endswith("labels")), None)
    if not isinstance(labels, list) or not labels:
        return None
    return {"text": value["text"], "label": labels[0] if len(labels) == 1 else labels}


def read_argilla(record: Record) -> Record | Fault:
    """Return the columns of a record of Argilla with the responses to its questions."""
    fields, responses = record["fields"], record["responses"]
    if not isinstance(fields, Mapping):
        return record
    answers: list[Answers] = []
    if isinstance(responses, Mapping):
        for name, response in responses.items():
            answers += [{name: _value(answer)} for answer in _submitted(response)]
    else:
        for answer in _submitted(responses):
            values = answer.get("values")
            if isinstance(values, Mapping):
                answers.append({name: _value(value) for name, value in values.items()})
    rest = {name: value for name, value in record.items() if name not in ("fields", "responses", "suggestions")}
    return _joined(fields, answers, rest, "responses")


def _submitted(answers: Any) -> Iterable[Record]:
    return [
        answer
        for answer in (answers if isinstance(answers, list) else [])
        if isinstance(answer, Mapping) and answer.get("status", "submitted") in ("submitted", None)
    ]


def _value(answer: Any) -> Any:
    return answer.get("value") if isinstance(answer, Mapping) else answer


def read_flat_argilla(record: Record) -> Record | Fault:
    """Return the columns of a record of Argilla in a table, where `NAME.responses` has the answers to a question."""
    names = [name.removesuffix(".responses") for name in record if name.endswith(".responses")]
    answers: list[Answers] = []
    for name in names:
        responses, states = record[f"{name}.responses"], record.get(f"{name}.responses.status")
        responses = responses if isinstance(responses, list) else []
        states = (
            states if isinstance(states, list) and len(states) == len(responses) else ["submitted"] * len(responses)
        )
        answers += [{name: value} for value, state in zip(responses, states, strict=True) if state == "submitted"]
    ends = tuple(f"{name}.{part}" for name in names for part in ("responses", "suggestion"))
    fields = {name: value for name, value in record.items() if not name.startswith(ends)}
    return _joined(fields, answers, {}, f"{names[0]}.responses")


def read_old_argilla(record: Record) -> Record | Fault:
    """Return the columns of a record of Argilla 1, whose answer is its `annotation`."""
    annotation = record["annotation"]
    if isinstance(annotation, list) and any(isinstance(item, Mapping | list) for item in annotation):
        message, fix = "the annotations mark parts of the text, and are no answer to it", "export a classification"
        return Fault("bad-export", message, fix, column="annotation")
    names = ("text", "inputs", "annotation", "prediction", "explanation")
    inputs = record.get("inputs")
    fields = {"text": record["text"]} if record.get("text") else dict(inputs) if isinstance(inputs, Mapping) else {}
    rest = {name: value for name, value in record.items() if name not in names}
    answers = [{"label": annotation}] if annotation not in (None, "", []) else []
    return _joined(fields, answers, rest, "annotation")


def read_label_studio_min(record: Record) -> Record | Fault:
    """Return a row of Label Studio's JSON-MIN or CSV without what it says about the annotation."""
    fields = {name: value for name, value in record.items() if name not in _ABOUT}
    answers = [name for name in fields if name not in PROMPTS and not isinstance(fields[name], list | Mapping)]
    if len(fields) != 2 or len(answers) != 1:
        return record
    about = {name: value for name, value in record.items() if name in ("id", "annotation_id")}
    (answer,) = answers
    values = {name: value for name, value in fields.items() if name != answer}
    return _joined(values, [{answer: fields[answer]}], about, answer)


_ABOUT = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")


def read_prodigy(record: Record) -> Record | Fault:
    """Return the columns of a task of Prodigy with the options that were accepted, or its label if it was."""
    if record["answer"] != "accept":
        fix = f"export the accepted tasks alone; or, {DROP}"
        return Fault("bad-export", f"the answer to the task is {record['answer']!r}", fix, column="answer")
    options, accepted = record.get("options"), record.get("accept")
    rest = {name: record[name] for name in ("meta", "_input_hash", "_task_hash") if name in record}
    data = {name: record[name] for name in ("text", "html", "image") if name in record}
    if isinstance(options, list) and isinstance(accepted, list):
        names = {item.get("id"): item.get("text", item.get("id")) for item in options if isinstance(item, Mapping)}
        chosen = [names.get(key, key) for key in accepted]
        answers = [{"label": chosen[0] if len(chosen) == 1 else chosen}] if chosen else []
        return _joined(data, answers, rest, "accept")
    if isinstance(record.get("label"), str) and not record.get("spans"):
        return _joined(data, [{"label": record["label"]}], rest, "label")
    text, spans = record.get("text"), record.get("spans")
    if isinstance(text, str) and isinstance(spans, list) and all(map(_is_span, spans)):
        marked = [{"text": text[span["start"] : span["end"]], "label": span["label"]} for span in spans]
        return {**data, ENTITIES: marked} | rest
    message = "the task marks parts of the text, and has no answer to it"
    return Fault("bad-export", message, "export a task with options or a label", column="spans")


def _is_span(span: Any) -> bool:
    return isinstance(span, Mapping) and "label" in span and all(type(span.get(key)) is int for key in ("start", "end"))


def _joined(data: Record, answers: list[Answers], rest: Record, column: str) -> Record | Fault:
    """Return the columns of a task and its answers, which must agree; a single text and answer get the usual names."""
    agreed: Answers = {}
    for values in answers:
        for name, value in values.items():
            if agreed.setdefault(name, value) != value:
                message = f"annotators gave different answers to {name}"
                fix = f"export the agreed answer alone; or, {DROP}"
                return Fault("bad-export", message, fix, column=column)
    if not agreed:
        fix = f"export annotated rows alone; or, {DROP}"
        return Fault("bad-export", "the row has no annotation", fix, column=column)
    columns = dict(data)
    texts = [name for name, value in data.items() if isinstance(value, str | list) and value]
    if len(agreed) == 1:
        (name, value) = next(iter(agreed.items()))
        agreed = {name if name in (*ANSWERS, ENTITIES) else "completion": value}
        if len(texts) == 1 and texts[0] not in PROMPTS:
            columns = {("prompt" if key == texts[0] else key): inner for key, inner in columns.items()}
    columns |= {f"{name}.answer" if name in columns else name: value for name, value in agreed.items()}
    return columns | {name: value for name, value in rest.items() if name not in columns}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

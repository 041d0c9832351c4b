"""Settings that read rows whose columns have unknown names; faults print them for pasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.read.columns.kinds import BOOKKEEPING, INPUTS, KIND_OF, snake_case
from kamerton.data.read.nested import is_printed, unpacked
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault
from kamerton.shell import setting

Record = Mapping[str, Any]
PROMPTS = (
    *("prompt", "question", "query", "instruction", "input", "text", "sentence", "document", "article", "review"),
    *("title", "headline", "message", "comment", "tweet", "content", "body", "utterance", "problem", "user"),
    *("instrukcja", "polecenie", "pytanie", "anweisung", "frage", "pregunta", "domanda", "質問", "指示"),
)
STEPS = ("directions", "steps", "instructions")  # of a recipe, lists of sentences
COMPLETIONS = (
    *("completion", "response", "answer", "output", "target", "label", "category", "class", "intent", "labels"),
    *("expected", "ideal", "targets", "generation"),
    *("odpowiedź", "odpowiedz", "antwort", "ausgabe", "réponse", "reponse", "respuesta", "risposta", "回答", "出力"),
    *(
        "sentiment",
        "emotion",
        "summary",
        "solution",
        "solutions",
        "code",
        "assistant",
        "reply",
        "topic",
        "rating",
        "stars",
        *("recipe", "poem", *STEPS[:2]),
    ),
)
ALTERNATIVES = ("corrections", "references", "answers", "solutions")  # lists of texts, each of which is right
TEXT = 3  # words of a text, on average
JOIN = "\\n"  # as a template writes a line break
FEW = 20  # distinct values of a label in the first rows, at most


def template_settings(prompt: str | None, completion: str | None) -> str:
    """Return the settings of the templates, quoted for a shell."""
    templates = [("data.prompt", prompt), ("data.completion", completion)]
    return " ".join(setting(key, value) for key, value in templates if value is not None)


def unclear(message: str, ways: Sequence[tuple[str, str]], column: str) -> Fault:
    """Return the fault of rows that may be read in several ways, each with its settings and what it means."""
    fix = "; or ".join(f"add {settings}" + (f" ({meaning})" if meaning else "") for settings, meaning in ways)
    return Fault("unclear-columns", message, fix, column=column)


def propose(head: Sequence[Record], prompt: str | None, completion: str | None) -> str | None:
    """Return the settings that read the columns of the first rows; None if too few of them may be read.

    `prompt` and `completion` are the columns that are known already.
    """
    names = list(dict.fromkeys(name for record in head for name in record))
    values = {name: [r[name] for r in head if not is_blank(r.get(name))] for name in names}
    free = [name for name in names if name not in (prompt, completion) and _may_be_read(name, values[name])]
    if completion is None:
        if prompt is None and len(free) == 1 and _words(values[free[0]]) >= TEXT and not _named_completions(free):
            return setting("data.columns.text", free[0])
        readable = {prompt, *free}
        others = [name for name in names if name not in readable and _is_label(values[name])]
        completion = _choose_completion(free, others, values, prompt)
        if completion is None:
            return None
    free = [name for name in free if name != completion]
    after = completion_setting(completion, values[completion])
    if prompt is not None:
        context = [name for name in free if snake_case(name) in INPUTS and not isinstance(values[name][0], int | float)]
        if not context:
            return after  # the prompt is found by its name
        fields = [context_field(name, values[name][0])[0] for name in context]
        template = "\\n\\n".join([*fields, f"{{{prompt}}}"])
        return f"{setting('data.prompt', template)} {after}"
    texts = [name for name in free if _words(values[name]) > 0]
    if not texts:
        return None
    prompt = _choose_prompt(texts, values)
    shown = [name for name in texts if name == prompt or (_words(values[name]) >= TEXT and not _is_label(values[name]))]
    if len(shown) == 1:
        is_text = after == setting("data.columns.completion", completion)
        return pair_setting(prompt, completion) if is_text else f"{setting('data.columns.prompt', prompt)} {after}"
    fields = [f"{name}: {{{name}{':lines' * _are_lists(values[name])}}}" for name in shown]
    return f"{setting('data.prompt', JOIN.join(fields))} {after}"


def _are_lists(values: Sequence[object]) -> bool:
    """Return whether the values are lists of texts, or the texts of such lists."""
    lists = [unpacked(value) for value in values]
    return all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists)


def context_field(name: str, value: object) -> tuple[str, bool]:
    """Return the field of a context, and whether its value has one meaning."""
    if isinstance(value, list):
        return f"{{{name}:lines?}}", all(isinstance(item, str) for item in value)
    if isinstance(value, Mapping):
        key = max(value, key=lambda key: len(str(value[key])) if isinstance(value[key], str | list) else 0)
        return f"{{{name}.{key}:lines?}}", False
    return f"{{{name}?}}", True


def answer_field(name: str, value: object) -> str:
    """Return the field of an answer: of a list of answers the first, of an object its text.

    A text is read as a list or an object only if the name is that of several answers.
    """
    value = unpacked(value) if snake_case(name) in ALTERNATIVES else value
    if isinstance(value, Mapping):
        keys = {str(key).lower(): key for key in value}
        key = next(
            (keys[key] for key in ("text", "value", "answer", "spans", "input_text", "solution") if key in keys), None
        )
        if key is not None:
            return f"{{{name}.{key}[0]}}" if isinstance(value[key], list) else f"{{{name}.{key}}}"
    if isinstance(value, list) and value:
        if isinstance(value[0], Mapping):
            key = next((key for key in ("text", "value", "answer") if key in value[0]), None)
            return f"{{{name}.{key}[0]}}" if key else f"{{{name}}}"
        return f"{{{name}[0]}}"
    return f"{{{name}}}"


def pair_setting(prompt: str, completion: str) -> str:
    """Return the setting that reads two columns of texts as prompt and completion."""
    return setting("data.columns", {"prompt": prompt, "completion": completion})


def completion_setting(name: str, values: Sequence[object]) -> str:
    """Return the setting that reads a column as the completion; numbers as texts, lists joined by commas."""
    value = values[0] if values else ""
    are_printed = bool(values) and all(map(is_printed, values))  # by Python, which no model should learn
    value = unpacked(value) if are_printed or snake_case(name) in ALTERNATIVES else value
    if snake_case(name) in STEPS and _are_lists(values):
        return setting("data.completion", f"{{{name}:lines}}")
    if isinstance(value, str):
        return setting("data.columns.completion", name)
    if isinstance(value, list) and snake_case(name) in ALTERNATIVES:
        return setting("data.completion", f"{{{name}[0]}}")
    if isinstance(value, list) and not all(isinstance(item, str | int | float) for item in value):
        return setting("data.completion", f"{{{name}:json}}")
    if isinstance(value, Mapping):
        field = answer_field(name, value)
        return setting("data.completion", field if field != f"{{{name}}}" else f"{{{name}:json}}")
    return setting("data.completion", f"{{{name}:list}}" if isinstance(value, list) else f"{{{name}}}")


def _may_be_read(name: str, values: Sequence[object]) -> bool:
    key = snake_case(name)
    words = set(key.split("_"))
    if not values or key in KIND_OF:
        return False
    return not words & BOOKKEEPING or key in PROMPTS or key.split("_")[-1] in COMPLETIONS


def likely_completion(names: Sequence[str]) -> str:
    """Return the column whose name is most like that of a completion; the first without any."""
    return next(iter(_named_completions(names)), names[0])


def _named_completions(names: Sequence[str]) -> list[str]:
    """Return the columns with the name of a completion, then those whose name ends with one, then contains one."""
    words = {name: snake_case(name).split("_") for name in names}
    exact = [name for usual in COMPLETIONS for name in names if snake_case(name) == usual]
    end = [name for usual in COMPLETIONS for name in names if words[name][-1] == usual]
    return [*exact, *end, *(name for usual in COMPLETIONS for name in names if usual in words[name])]


def _choose_completion(
    free: Sequence[str], others: Sequence[str], values: Mapping[str, Sequence[object]], prompt: str | None
) -> str | None:
    """Return the completion among the columns `free`, or for texts that look alike a label among the `others`."""
    named = _named_completions(free)
    if named:
        return named[0]
    if prompt and "text" in free:
        return "text"
    labels = [name for name in free if _is_label(values[name])]
    if labels and (prompt or len(labels) < len(free)):
        return labels[0]
    if len(free) >= 2 and others and all(_words(values[name]) >= TEXT for name in free):
        return others[0]
    if len(free) < (1 if prompt else 2) or isinstance(values[free[-1]][0], bool):
        return None
    return free[-1]


def _choose_prompt(texts: Sequence[str], values: Mapping[str, Sequence[object]]) -> str:
    by_name = [name for usual in PROMPTS for name in texts if snake_case(name) == usual]
    return by_name[0] if by_name else max(texts, key=lambda name: _words(values[name]))


def _is_label(values: Sequence[object]) -> bool:
    """Return whether the values repeat as those of a label do."""
    if len(values) < 6 or not all(isinstance(value, str | int | float) for value in values):
        return False
    return 2 <= len(set(values)) <= min(FEW, len(values) // 2)


def _words(values: Sequence[object]) -> float:
    """Return the mean number of words of a column of texts; 0 for other columns."""
    if not values or not all(isinstance(value, str) for value in values):
        return 0
    return sum(len(str(value).split()) for value in values) / len(values)

"""Recognising data sets by the names of their columns: the templates of prompt and completion that read them.

Only what has one meaning is recognised; other rows are a fault whose settings read them (`propose`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kamerton.data.read.columns.multiple_choice import multiple_choice
from kamerton.data.read.columns.named import ANSWER_NAMES, CONTEXTS, LABELS, QUESTIONS, Columns, Recognised, Record
from kamerton.data.read.columns.propose import COMPLETIONS, template_settings, unclear
from kamerton.errors import Fault
from kamerton.shell import setting

INSTRUCTIONS = ("instruction", "instructions")
INPUTS = ("input", "inputs", "context")
PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence"), ("question1", "question2")),
    *(("text1", "text2"), ("sentence_a", "sentence_b"), ("text_a", "text_b"), ("claim", "evidence")),
)
JUDGEMENTS = ("is_duplicate", "similarity_score", "relatedness_score", "entailment_judgment", "labels", "score")
PARALLEL = (("source", "target"), ("src", "tgt"), ("src", "trg"), ("source_text", "target_text"))
THOUGHTS = ("complex_cot", "complex_co_t", "cot", "co_t", "chain_of_thought", "rationale")
DOCUMENTS = ("document", "article", "dialogue", "dialog", "text", "report", "transcript")
SUMMARIES = ("summary", "highlights", "tldr")
PLAIN_PAIRS = (
    *(("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("human", "bot"), ("problem", "solution")),
    *(("prompt", "canonical_solution"), ("text", "label_text"), ("problem", "answer")),
)


def recognise(names: Sequence[str], head: Sequence[Record]) -> Recognised | Fault | None:
    """Return the templates that read rows with these columns, a fault if they may mean several things, or None."""
    columns = Columns(names, head)
    rules = (_reasoned, _solution_and_answer, _translation, _title, multiple_choice, _two_texts, _parallel_texts)
    for rule in (*rules, _question_and_context, _instances, _instruction, _summary, _answers):
        result = rule(columns)
        if result is not None:
            return result
    return None


def plain_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the prompt and completion of two columns that are always read together."""
    columns = Columns(names, ())
    for prompt, completion in PLAIN_PAIRS:
        if prompt in columns.names and completion in columns.names:
            return columns.names[prompt], columns.names[completion]
    return None


def _two_texts(columns: Columns) -> Recognised | None:
    label = columns.find((*LABELS, *JUDGEMENTS))
    for pair in PAIRS:
        first, second = (columns.names.get(name) for name in pair)
        if first and second and label and all(isinstance(columns.sample(n), str) for n in (first, second)):
            if isinstance(columns.sample(label), list | dict):
                return None
            return Recognised(f"{first}: {{{first}}}\\n{second}: {{{second}}}", f"{{{label}}}")
    return None


def _parallel_texts(columns: Columns) -> Recognised | None:
    """Recognise the source and the target of a translation or another transformation."""
    for pair in PARALLEL:
        first, second = (columns.names.get(name) for name in pair)
        if first and second and not any(name in columns.names for name in (*QUESTIONS, *INSTRUCTIONS, "input", "text")):
            texts = [record.get(name) for record in columns.head for name in (first, second)]
            if len(set(map(str, texts))) > len(texts) / 2 and all(isinstance(text, str | None) for text in texts):
                return Recognised(f"{{{first}}}", f"{{{second}}}")
    return None


def _reasoned(columns: Columns) -> Fault | None:
    """Return the fault of answers beside the chain of thought that leads to them, which may be trained on as well."""
    question, answer = columns.find(QUESTIONS), columns.find(ANSWER_NAMES)
    thought = columns.find(THOUGHTS)
    if question is None or answer is None or not isinstance(columns.sample(thought or ""), str):
        return None
    ways = [
        (template_settings(f"{{{question}}}", f"<think>{{{thought}}}</think>{{{answer}}}"), f"{thought} is reasoning"),
        (template_settings(f"{{{question}}}", f"{{{answer}}}"), f"without {thought}"),
    ]
    return unclear(f"the rows have a chain of thought ({thought}) beside the answer", ways, str(thought))


def _instances(columns: Columns) -> Fault | None:
    """Return the fault of an instruction with instances, as of Self-Instruct, of which each row may have several."""
    instruction, name = columns.find(INSTRUCTIONS), columns.find(("instances",))
    value = columns.sample(name) if name else None
    if instruction is None or not isinstance(value, list) or not isinstance(value[0], Mapping):
        return None
    settings = template_settings(f"{{{instruction}}}\\n\\n{{{name}[0].input?}}", f"{{{name}[0].output}}")
    return unclear("the rows are instructions with instances", [(settings, "the first instance of each")], str(name))


def _question_and_context(columns: Columns) -> Recognised | Fault | None:
    question, answer = columns.find(QUESTIONS), columns.find(ANSWER_NAMES)
    contexts = columns.filled(CONTEXTS)
    if question is None or answer is None or not contexts:
        return None
    fields = [_context_field(name, columns.sample(name)) for name in contexts]
    prompt = "\\n\\n".join([*(field for field, _ in fields), f"{{{question}}}"])
    completion = answer_field(answer, columns.sample(answer))
    if len(fields) == 1 and fields[0][1]:
        return Recognised(prompt, completion)
    message = f"the rows are questions about {', '.join(contexts)}"
    return unclear(message, [(template_settings(prompt, completion), "")], contexts[0])


def _context_field(name: str, value: object) -> tuple[str, bool]:
    """Return the field of a context, and whether its value has one meaning."""
    if isinstance(value, list):
        return f"{{{name}:lines?}}", all(isinstance(item, str) for item in value)
    if isinstance(value, Mapping):
        key = max(value, key=lambda key: len(str(value[key])) if isinstance(value[key], str | list) else 0)
        return f"{{{name}.{key}:lines?}}", False
    return f"{{{name}?}}", True


def answer_field(name: str, value: object) -> str:
    """Return the field of an answer: of a list of answers the first, of an object its text."""
    if isinstance(value, Mapping):
        key = next((key for key in ("text", "value", "answer") if key in value), None)
        if key is not None:
            return f"{{{name}.{key}[0]}}" if isinstance(value[key], list) else f"{{{name}.{key}}}"
    if isinstance(value, list) and value:
        if isinstance(value[0], Mapping):
            key = next((key for key in ("text", "value", "answer") if key in value[0]), None)
            return f"{{{name}.{key}[0]}}" if key else f"{{{name}}}"
        return f"{{{name}[0]}}"
    return f"{{{name}}}"


def _instruction(columns: Columns) -> Recognised | None:
    instruction, answer = columns.find(INSTRUCTIONS), columns.find(ANSWER_NAMES)
    names = columns.names
    if instruction is None or answer is None or {"instruction", "output"} <= set(names.values()) == set(names):
        return None  # Alpaca's own names have a layout of their own
    given = columns.find(INPUTS)
    if given is None:
        return None
    return Recognised(f"{{{instruction}}}\\n\\n{{{given}?}}", answer_field(answer, columns.sample(answer)))


def _summary(columns: Columns) -> Recognised | None:
    document, summary = columns.find(DOCUMENTS), columns.find(SUMMARIES)
    if document is None or summary is None:
        return None
    if any(name in columns.names for name in (*QUESTIONS, *ANSWER_NAMES, *LABELS, *INSTRUCTIONS)):
        return None
    return Recognised(f"{{{document}}}", f"{{{summary}}}")


def _answers(columns: Columns) -> Recognised | None:
    """Recognise a question whose answer is a list or an object."""
    question, answer = columns.find(QUESTIONS), columns.find(("answers", "answer"))
    if question is None or answer is None or columns.find(("answer", "response", "completion")) not in (None, answer):
        return None
    value = columns.sample(answer)
    field = answer_field(answer, value)
    if isinstance(value, str | int | float | None) or field == f"{{{answer}}}":
        return None
    return Recognised(f"{{{question}}}", field) if isinstance(columns.sample(question), str) else None


def _solution_and_answer(columns: Columns) -> Fault | None:
    """Return the fault of questions with a worked solution and its result, either of which may be the completion."""
    question, both = columns.find((*QUESTIONS, "problem")), columns.filled(("solution", "answer"))
    if question is None or len(both) < 2 or any(not isinstance(columns.sample(name), str) for name in both):
        return None
    ways = [(template_settings(f"{{{question}}}", f"{{{name}}}"), f"trains on {name}") for name in both]
    return unclear("the rows have a solution and an answer, and either may be what is trained on", ways, both[0])


def _title(columns: Columns) -> Fault | None:
    """Return the fault of titled texts that are neither a corpus with addresses nor pairs."""
    title, text = columns.find(("title", "headline")), columns.find(("text",))
    others = ("url", "link", *QUESTIONS, *ANSWER_NAMES, *LABELS, *SUMMARIES, *INSTRUCTIONS, "messages", *COMPLETIONS)
    if title is None or text is None or any(name in columns.names for name in others):
        return None
    ways = [
        (setting("data.columns.completion", title), "writes titles of texts"),
        (setting("data.columns.text", text), "trains on the texts alone, as a corpus"),
    ]
    return unclear(f"the rows are texts with a {title}", ways, title)


def _translation(columns: Columns) -> Fault | None:
    """Return the fault of texts in two languages, whose direction is not stated."""
    name = columns.find(("translation", "translations"))
    value = columns.sample(name) if name else None
    if isinstance(value, Mapping) and len(value) >= 2:
        fields = [f"{{{name}.{language}}}" for language in list(value)[:2]]
        languages = list(value)[:2]
    else:
        languages = [name for name in columns.names.values() if re.fullmatch(r"[a-z]{2}(_[A-Z]{2})?", name)]
        languages = [name for name in languages if isinstance(columns.sample(name), str) and name != "id"]
        if len(languages) != 2 or any(n in columns.names for n in (*QUESTIONS, *ANSWER_NAMES, *LABELS, "text")):
            return None
        fields = [f"{{{language}}}" for language in languages]
    (first, second), (a, b) = languages, fields
    ways = [(template_settings(a, b), f"{first} to {second}"), (template_settings(b, a), f"{second} to {first}")]
    return unclear(f"the rows are texts in {first} and {second}, and the direction is not stated", ways, name or first)

"""Recognising data sets by the names of their columns: the templates of prompt and completion that read them.

Only what has one meaning is recognised; other rows are a fault whose settings read them (`propose`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kamerton.data.read.columns.extracted import extracted, printed_labels, tagged_words
from kamerton.data.read.columns.multiple_choice import multiple_choice
from kamerton.data.read.columns.named import ANSWER_NAMES, CONTEXTS, LABELS, QUESTIONS, Columns, Recognised, Record
from kamerton.data.read.columns.propose import answer_field, context_field, template_settings, unclear
from kamerton.data.read.columns.solutions import listed_solutions, reasoned, solution_and_answer, trajectories
from kamerton.data.read.columns.unclear import (
    INSTRUCTIONS,
    SUMMARIES,
    answers_of_two,
    commits,
    corrected,
    dialogue_questions,
    documented_code,
    flagged_text,
    instances,
    judged_answer,
    listed_prompt,
    title,
    translation,
)
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault

INPUTS = ("input", "inputs", "context")
PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence"), ("question1", "question2")),
    *(("text1", "text2"), ("sentence_a", "sentence_b"), ("text_a", "text_b"), ("claim", "evidence")),
)
JUDGEMENTS = ("is_duplicate", "similarity_score", "relatedness_score", "entailment_judgment", "labels", "score")
PARALLEL = (("source", "target"), ("src", "tgt"), ("src", "trg"), ("source_text", "target_text"))
DOCUMENTS = ("document", "article", "dialogue", "dialog", "text", "report", "transcript")
PLAIN_PAIRS = (
    *(("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("human", "bot"), ("problem", "solution")),
    *(("prompt", "canonical_solution"), ("text", "label_text"), ("problem", "answer")),
    *(("inputs_pretokenized", "targets_pretokenized"), ("inputs", "targets"), ("input_text", "target_text")),
    *(("input_text", "output_text"), ("input", "expected"), ("input", "ideal"), ("question", "expected")),
    *(("question", "best_answer"), ("user_input", "reference"), ("user_input", "response"), ("question", "sql")),
)


def recognise(names: Sequence[str], head: Sequence[Record]) -> Recognised | Fault | None:
    """Return the templates that read rows with these columns, a fault if they may mean several things, or None."""
    columns = Columns(names, head)
    if columns.names.keys() >= {"definition", "inputs", "targets"}:  # Natural Instructions
        definition, inputs, target = (columns.names[name] for name in ("definition", "inputs", "targets"))
        return Recognised(f"{{{definition}}}\\n\\n{{{inputs}}}", answer_field(target, columns.sample(target)))
    rules = (
        trajectories,
        answers_of_two,
        commits,
        reasoned,
        solution_and_answer,
        listed_solutions,
        translation,
        title,
        multiple_choice,
        _two_texts,
        judged_answer,
    )
    more = (_parallel_texts, _sql, corrected, dialogue_questions, _question_and_context, instances, _instruction)
    last = (extracted, tagged_words, printed_labels, _answers, documented_code, flagged_text, listed_prompt)
    for rule in (*rules, *more, _summary, _listed_label, *last):
        result = rule(columns)
        if result is not None:
            return result
    return None


def plain_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the prompt and completion of two columns that are always read together."""
    columns = Columns(names, ())
    if "db_id" in columns.names and {"question", "query"} <= set(columns.names):  # Spider: the query is SQL
        return columns.names["question"], columns.names["query"]
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


def _sql(columns: Columns) -> Recognised | None:
    """Recognise a question about the tables of a database with its SQL."""
    question, sql = columns.find(("sql_prompt", "question")), columns.find(("sql",))
    tables = columns.find(("sql_context", "schema", "create_table"))
    if question is None or tables is None or not isinstance(columns.sample(sql or ""), str):
        return None
    return Recognised(f"{{{tables}?}}\\n\\n{{{question}}}", f"{{{sql}}}")


def _listed_label(columns: Columns) -> Recognised | Fault | None:
    """Recognise a text whose label is a list of one (doccano); several, or an object, need a setting."""
    text, label = columns.find(("text", "sentence")), columns.find(("label", "labels", "cats"))
    value = columns.sample(label) if label else None
    if text is None or label is None or not isinstance(columns.sample(text), str):
        return None
    if isinstance(value, Mapping):
        keys = list(value)
        field = f"{{{label}.{keys[0]}}}" if len(keys) == 1 else f"{{{label}:json}}"
        settings = template_settings(f"{{{text}}}", field)
        return unclear(f"{label} is an object ({', '.join(map(str, keys[:5]))})", [(settings, "")], label)
    if not isinstance(value, list) or columns.find(ANSWER_NAMES):
        return None
    lists = [record[label] for record in columns.head if not is_blank(record.get(label))]
    if any(isinstance(item, list | Mapping) for items in lists for item in items):
        way = (template_settings(f"{{{text}}}", f"{{{label}:json}}"), "writes them as JSON")
        return unclear(f"{label} marks parts of the text", [way], label)
    if all(isinstance(items, list) and len(items) == 1 and isinstance(items[0], str) for items in lists):
        return Recognised(f"{{{text}}}", f"{{{label}}}")
    way = (template_settings(f"{{{text}}}", f"{{{label}:list}}"), "writes them with commas")
    return unclear(f"the rows have lists of labels ({label})", [way], label)


def _parallel_texts(columns: Columns) -> Recognised | None:
    """Recognise the source and the target of a translation or another transformation."""
    for pair in PARALLEL:
        first, second = (columns.names.get(name) for name in pair)
        if first and second and not any(name in columns.names for name in (*QUESTIONS, *INSTRUCTIONS, "input", "text")):
            texts = [record.get(name) for record in columns.head for name in (first, second)]
            if len(set(map(str, texts))) > len(texts) / 2 and all(isinstance(text, str | None) for text in texts):
                return Recognised(f"{{{first}}}", f"{{{second}}}")
    return None


def _question_and_context(columns: Columns) -> Recognised | Fault | None:
    question, answer = columns.find(QUESTIONS), columns.find(ANSWER_NAMES)
    contexts = columns.filled(CONTEXTS)
    if question is None or answer is None or not contexts:
        return None
    fields = [context_field(name, columns.sample(name)) for name in contexts]
    prompt = "\\n\\n".join([*(field for field, _ in fields), f"{{{question}}}"])
    completion = answer_field(answer, columns.sample(answer))
    if len(fields) == 1 and fields[0][1]:
        return Recognised(prompt, completion)
    message = f"the rows are questions about {', '.join(contexts)}"
    return unclear(message, [(template_settings(prompt, completion), "")], contexts[0])


def _instruction(columns: Columns) -> Recognised | None:
    instruction, answer = columns.find(INSTRUCTIONS), columns.find(ANSWER_NAMES)
    names = columns.names
    if instruction is None or answer is None or {"instruction", "output"} <= set(names.values()) == set(names):
        return None  # Alpaca's own names have a layout of their own
    inputs = columns.find(INPUTS)
    if inputs is None:
        return None
    return Recognised(f"{{{instruction}}}\\n\\n{{{inputs}?}}", answer_field(answer, columns.sample(answer)))


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
    field = answer_field(answer, columns.sample(answer))
    if field == f"{{{answer}}}":
        return None
    return Recognised(f"{{{question}}}", field) if isinstance(columns.sample(question), str) else None

"""Rows that may mean several things by the names of their columns: a fault with the settings for each meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kamerton.data.read.columns.kinds import KIND_OF
from kamerton.data.read.columns.named import ANSWER_NAMES, CONTEXTS, LABELS, QUESTIONS, Columns
from kamerton.data.read.columns.propose import COMPLETIONS, answer_field, context_field, template_settings, unclear
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault
from kamerton.shell import setting
from kamerton.words import listed

INSTRUCTIONS = ("instruction", "instructions")
BETTER = ("corrected", "revised", "revision", "corrected_answer", "ground_truth", "reference", "reference_answer")
LANGUAGES = (  # as names of columns
    *("english", "polish", "german", "french", "spanish", "italian", "portuguese", "dutch", "czech", "russian"),
    *("ukrainian", "japanese", "chinese", "korean", "turkish", "arabic", "hindi", "swedish"),
)
_LANGUAGE = re.compile(r"[a-z]{2}(_[A-Z]{2})?|(sentence_)?[a-z]{3}_[A-Z][a-z]{3}")  # de, pt_BR; FLORES: eng_Latn
MIN_FLAGS, MIN_WORDS = 3, 2  # columns of flags; words of a text
FLAGS = ("0", "1", "0.0", "1.0", "true", "false")
SUMMARIES = ("summary", "highlights", "tldr")


def judged_answer(columns: Columns) -> Fault | None:
    """Return the fault of answers with a judgement of each, which is what may be learnt."""
    question, answer = columns.find(QUESTIONS), columns.find(("answer", "response"))
    label = columns.find(("target", "label", "is_correct", "relevance")) if question and answer else None
    values = {str(record[label]) for record in columns.head if not is_blank(record.get(label))} if label else set()
    if not question or not answer or not values or values - {"0", "1", "0.0", "1.0", "True", "False"}:
        return None
    if isinstance(columns.sample(str(label)), bool):
        return None  # KTO, reported with its other forms
    prompt = f"{question}: {{{question}}}\\n{answer}: {{{answer}}}"
    ways = [(template_settings(prompt, f"{{{label}}}"), f"learns to judge: {label}")]
    ways += [(f"'data.columns.metadata=[{label}]'", f"trains on every {answer}, whatever {label} is")]
    return unclear(f"the rows are questions with an answer, and {label} may be the judgement of it", ways, str(label))


def corrected(columns: Columns) -> Fault | None:
    """Return the fault of answers beside a better text, which may be meant to be trained on instead."""
    question, answer = columns.find((*QUESTIONS, *INSTRUCTIONS)), columns.find(ANSWER_NAMES)
    better = columns.filled(BETTER)
    if question is None or answer is None or answer in better or not better:
        return None
    if any(not isinstance(columns.sample(name), str) for name in (question, answer, better[0])):
        return None
    context = [columns.names[name] for name in (*CONTEXTS, "input") if name in columns.names][:1]
    prompt = "\\n\\n".join([f"{{{question}}}", *(context_field(name, columns.sample(name))[0] for name in context)])
    ways = [(template_settings(prompt, f"{{{name}}}"), f"trains on {name}") for name in (better[0], answer)]
    return unclear(f"the rows have {answer} and {better[0]}, and either may be what is trained on", ways, better[0])


def dialogue_questions(columns: Columns) -> Fault | None:
    """Return the fault of a text with several questions and answers in each row (CoQA)."""
    questions, answers = columns.find(("questions",)), columns.find(("answers",))
    context = columns.find(CONTEXTS)
    if context is None or not isinstance(columns.sample(questions or ""), list) or not columns.sample(answers or ""):
        return None
    answer, options = answer_field(str(answers), columns.sample(str(answers))), columns.find(("options", "choices"))
    first = columns.sample(options or "")
    letters = f"\\n\\n{{{options}[0]:letters}}" if isinstance(first, list) and isinstance(first[0], list) else ""
    settings = template_settings(f"{{{context}}}\\n\\n{{{questions}[0]}}{letters}", answer)
    return unclear(
        "the rows have several questions and answers each", [(settings, "the first of each")], str(questions)
    )


def answers_of_two(columns: Columns) -> Fault | None:
    """Return the fault of answers by people beside those by a model (HC3), lists of texts or texts."""
    question, people = columns.find(QUESTIONS), columns.find(("human_answers", "human_answer"))
    model = next(
        (name for key, name in columns.names.items() if re.fullmatch(r"(chatgpt|ai|model)_answers?", key)), None
    )
    if question is None or people is None or model is None:
        return None
    both = [(name, columns.sample(name)) for name in (people, model)]
    ways = [
        (template_settings(f"{{{question}}}", answer_field(name, value)), f"trains on {name}, of several the first")
        for name, value in both
    ]
    return unclear(f"the rows have answers of people ({people}) and of a model ({model})", ways, people)


def commits(columns: Columns) -> Fault | None:
    """Return the fault of files before and after a change with its message (CommitPack)."""
    before, after = columns.find(("old_contents", "old_content")), columns.find(("new_contents", "new_content"))
    message = columns.find(("subject", "message", "commit_message"))
    if before is None or after is None or message is None:
        return None
    ways = [
        (template_settings(f"{{{message}}}\\n\\n{{{before}?}}", f"{{{after}}}"), "learns to change files"),
        (template_settings(f"{{{before}?}}\\n\\n{{{after}}}", f"{{{message}}}"), "learns to describe changes"),
    ]
    return unclear("the rows are changes of files with their messages", ways, message)


def instances(columns: Columns) -> Fault | None:
    """Return the fault of an instruction with instances, as of Self-Instruct, of which each row may have several."""
    instruction, name = columns.find(INSTRUCTIONS), columns.find(("instances",))
    value = columns.sample(name) if name else None
    if instruction is None or not isinstance(value, list) or not isinstance(value[0], Mapping):
        return None
    settings = template_settings(f"{{{instruction}}}\\n\\n{{{name}[0].input?}}", f"{{{name}[0].output}}")
    return unclear("the rows are instructions with instances", [(settings, "the first instance of each")], str(name))


def title(columns: Columns) -> Fault | None:
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


def translation(columns: Columns) -> Fault | None:
    """Return the fault of texts in two languages, whose direction is not stated."""
    name = columns.find(("translation", "translations"))
    value = columns.sample(name) if name else None
    if isinstance(value, Mapping) and len(value) >= 2:
        fields = [f"{{{name}.{language}}}" for language in list(value)[:2]]
        languages = list(value)[:2]
    else:
        languages = [name for key, name in columns.names.items() if _LANGUAGE.fullmatch(name) or key in LANGUAGES]
        languages = [name for name in languages if isinstance(columns.sample(name), str) and name != "id"]
        if len(languages) != 2 or any(n in columns.names for n in (*QUESTIONS, *ANSWER_NAMES, *LABELS, "text")):
            return None
        fields = [f"{{{language}}}" for language in languages]
    (first, second), (a, b) = languages, fields
    ways = [(template_settings(a, b), f"{first} to {second}"), (template_settings(b, a), f"{second} to {first}")]
    return unclear(f"the rows are texts in {first} and {second}, and the direction is not stated", ways, name or first)


def documented_code(columns: Columns) -> Fault | None:
    """Return the fault of functions with their descriptions (CodeSearchNet), either of which may be written."""
    code = columns.find(("func_code_string", "code", "function"))
    text = columns.find(("func_documentation_string", "docstring", "docstring_summary"))
    if code is None or text is None or not isinstance(columns.sample(code), str):
        return None
    ways = [
        (template_settings(f"{{{text}}}", f"{{{code}}}"), "learns to write code"),
        (template_settings(f"{{{code}}}", f"{{{text}}}"), "learns to describe code"),
    ]
    return unclear("the rows are functions with their descriptions", ways, code)


def flagged_text(columns: Columns) -> Fault | None:
    """Return the fault of a text with a column of 0 or 1 for each of several labels."""
    flags, texts = [], []
    for key, name in columns.names.items():
        values = [record[name] for record in columns.head if not is_blank(record.get(name))]
        if values and key not in KIND_OF and all(str(value).lower() in FLAGS for value in values):
            flags.append(name)
        elif values and all(isinstance(value, str) and len(value.split()) >= MIN_WORDS for value in values):
            texts.append(name)
    if len(flags) < MIN_FLAGS or len(texts) != 1 or columns.find((*ANSWER_NAMES, *LABELS, *COMPLETIONS)):
        return None
    every = ", ".join(f"{name}: {{{name}}}" for name in flags)
    ways = [
        (template_settings(f"{{{texts[0]}}}", every), "writes all of them"),
        (template_settings(f"{{{texts[0]}}}", f"{{{flags[0]}}}"), f"{flags[0]} alone"),
        (setting("data.columns.text", texts[0]), "trains on the texts alone"),
    ]
    return unclear(f"the rows are texts with {len(flags)} columns of 0 and 1 ({listed(flags)})", ways, flags[0])


def listed_prompt(columns: Columns) -> Fault | None:
    """Return the fault of a list of texts from which a text is written (CommonGen, ToTTo)."""
    answer = columns.find(ANSWER_NAMES)
    lists = [name for name in columns.names.values() if _are_texts(columns.sample(name))]
    names = [name for name in lists if name not in (answer, "references")]
    others = [name for name in columns.names.values() if name != answer and _is_sentence(columns.sample(name))]
    if len(names) != 1 or answer is None or not isinstance(columns.sample(answer), str) or others:
        return None
    ways = [
        (template_settings(f"{{{names[0]}:{how}}}", f"{{{answer}}}"), meaning)
        for how, meaning in (("list", "with commas"), ("lines", "a line each"))
    ]
    return unclear(f"the prompts are lists of texts ({names[0]})", ways, names[0])


def _is_sentence(value: object) -> bool:
    return isinstance(value, str) and len(value.split()) >= MIN_WORDS


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)

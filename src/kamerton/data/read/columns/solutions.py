"""Questions with several answers, or with reasoning beside one: a fault with the settings for each meaning."""

from __future__ import annotations

import re

from kamerton.data.read.columns.named import ANSWER_NAMES, QUESTIONS, Columns, Recognised
from kamerton.data.read.columns.propose import answer_field, template_settings, unclear
from kamerton.data.read.nested import unpacked
from kamerton.errors import Fault
from kamerton.words import listed

TASKS = (*QUESTIONS, "problem")
THOUGHTS = ("complex_cot", "complex_co_t", "cot", "co_t", "chain_of_thought", "rationale")
ANSWERED = ("attempt", "solution", "answer", "response", "output")  # how the name of an answer ends
MAX_WAYS = 4  # in a fix
_THOUGHT = re.compile(r"(|\w+_)thinking_trajector(?:y|ies)|(\w+_)(?:reasoning|thinking)")
_SOLUTION = re.compile(r"(\w+_)?solution(_\d+)?")
_RESULT = re.compile(r"((final|expected|long|short)_)?answer")


def reasoned(columns: Columns) -> Fault | None:
    """Return the fault of answers beside the chain of thought that leads to them, which may be trained on as well."""
    question, answer = columns.find(QUESTIONS), columns.find(ANSWER_NAMES)
    thought = columns.find(THOUGHTS)
    if question is None or answer is None or thought is None or not isinstance(columns.sample(thought), str):
        return None
    ways = [
        (template_settings(f"{{{question}}}", f"<think>{{{thought}}}</think>{{{answer}}}"), f"{thought} is reasoning"),
        (template_settings(f"{{{question}}}", f"{{{answer}}}"), f"without {thought}"),
    ]
    return unclear(f"the rows have a chain of thought ({thought}) beside the answer", ways, thought)


def trajectories(columns: Columns) -> Fault | None:
    """Return the fault of the reasoning and the answer of a model (OpenThoughts), beside a solution (s1K)."""
    question = columns.find(TASKS)
    pairs = []
    for key, name in columns.names.items():
        if match := _THOUGHT.fullmatch(key):
            answers = [columns.names.get((match[1] or match[2] or "") + end) for end in ANSWERED]
            pairs += [(name, answer) for answer in answers if answer is not None][:1]
    if question is None or not pairs:
        return None
    ways = []
    for thought, answer in pairs:
        field = answer_field(thought, columns.sample(thought))
        template = template_settings(f"{{{question}}}", f"<think>{field}</think>{{{answer}}}")
        ways.append((template, f"trains on {answer} with the reasoning of {thought}"))
    solution = columns.find(("solution", "answer", "ground_truth_solution"))
    if solution is not None:
        ways.append((template_settings(f"{{{question}}}", f"{{{solution}}}"), f"trains on {solution} alone"))
    return unclear("the rows have the reasoning and the answer of a model", ways, pairs[0][0])


def listed_solutions(columns: Columns) -> Recognised | None:
    """Recognise a problem with a list of programs that solve it, also as a text of JSON (APPS): the first is learnt."""
    question, solutions = columns.find(TASKS), columns.names.get("solutions")
    if question is None or solutions is None or columns.filled((*ANSWER_NAMES, "solution")):
        return None
    programs = unpacked(columns.sample(solutions))
    if not isinstance(programs, list) or not all(isinstance(program, str) for program in programs):
        return None
    start = columns.names.get("starter_code")
    prompt = f"{{{question}}}" + (f"\\n\\n{{{start}?}}" if start else "")
    return Recognised(prompt, f"{{{solutions}[0]}}")


def solution_and_answer(columns: Columns) -> Fault | None:
    """Return the fault of questions with solutions and their result, each of which may be the completion."""
    question = columns.find(TASKS)
    solutions = [name for key, name in columns.names.items() if _SOLUTION.fullmatch(key)]
    answers = [name for key, name in columns.names.items() if _RESULT.fullmatch(key)]
    several = [name for name in (*solutions, *answers) if isinstance(columns.sample(name), str)]
    if question is None or not solutions or len(several) < 2 or columns.find(("output", "response", "completion")):
        return None
    ways = [(template_settings(f"{{{question}}}", f"{{{name}}}"), f"trains on {name}") for name in several[:MAX_WAYS]]
    return unclear(f"the rows have {listed(several, MAX_WAYS)}, and each may be what is trained on", ways, several[0])

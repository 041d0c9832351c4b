"""Published data sets: read by the plain command, or refused with the settings for each meaning, which work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions
from kamerton.data.validation import read_examples, validate
from support.rows import question, write_jsonl
from support.settings import data_options, settings_of

TEXT = "Record {} counts the mills of the parish, and the ovens."


def text(i: int) -> str:
    return TEXT.format(i)


def flagged(right: int) -> dict[str, Any]:
    """Choices of which the one at this position is right."""
    return {"choices": ["the mill", "the oven", "no bread"], "labels": [int(k == right) for k in range(3)]}


READ: dict[str, Any] = {
    "flan": (lambda i: {"inputs": question(i), "targets": text(i)}, question(0), text(0)),
    "p3": (
        lambda i: {
            "inputs_pretokenized": question(i),
            "targets_pretokenized": text(i),
            "inputs": [1, i],
            "targets": [2, i],
        },
        *(question(0), text(0)),
    ),
    "natural instructions": (
        lambda i: {"definition": "Answer.", "inputs": question(i), "targets": [text(i)]},
        *(f"Answer.\n\n{question(0)}", text(0)),
    ),
    "spider": (lambda i: {"db_id": "t", "question": question(i), "query": f"SELECT {i}"}, question(0), "SELECT 0"),
    "gretel": (
        lambda i: {"sql_prompt": question(i), "sql_context": "CREATE TABLE t", "sql": f"SELECT {i}"},
        *(f"CREATE TABLE t\n\n{question(0)}", "SELECT 0"),
    ),
    "truthful": (
        lambda i: {"question": question(i), "best_answer": text(i), "category": "Law"},
        *(question(0), text(0)),
    ),
    "lettered options": (
        lambda i: {
            "question": question(i),
            "options": [f"A){i}", "B)x"],
            "rationale": "It is.",
            "correct": "AB"[i % 2],
        },
        *(f"{question(0)}\n\nA. 0\nB. x", "A"),
    ),
    "doccano": (lambda i: {"id": i, "text": question(i), "label": ["mill"]}, question(0), "mill"),
    "trivia": (
        lambda i: {"Question": question(i), "Answer": {"Aliases": ["x"], "Value": text(i)}},
        *(question(0), text(0)),
    ),
    "svamp": (
        lambda i: {"ID": i, "Body": text(i), "Question": question(i), "Answer": f"{i}.0"},
        *(f"{text(0)}\n\n{question(0)}", "0.0"),
    ),
    "mathqa": (
        lambda i: {"Problem": question(i), "options": f"a ) {i} , b ) 38", "correct": "ab"[i % 2], "category": "x"},
        *(f"{question(0)}\n\na ) 0 , b ) 38", "a"),
    ),
    "big math": (
        lambda i: {"problem": question(i), "answer": f"{i}", "domain": ["Sums"]},
        *(question(0), "0"),
    ),
    "apps": (
        lambda i: {
            "problem_id": i,
            "question": question(i),
            "solutions": json.dumps([text(i), "pass"]),
            "input_output": json.dumps({"inputs": ["1"]}),
            "starter_code": "" if i else "def f():",
        },
        *(f"{question(0)}\n\ndef f():", text(0)),
    ),
    "truthful targets": (
        lambda i: {
            "question": question(i),
            "mc1_targets": flagged(i % 2),
            "mc2_targets": {"choices": ["a mill", "no mill"], "labels": [1, 1]},
        },
        *(f"{question(0)}\n\nA. the mill\nB. the oven\nC. no bread", "A"),
    ),
    "truthful flags": (
        lambda i: {"question": question(i), "mc1_targets": {"the mill": i % 2, "the oven": 1 - i % 2}},
        *(f"{question(0)}\n\nA. the mill\nB. the oven", "B"),
    ),
    "listed programs": (lambda i: {"question": question(i), "solutions": [text(i), "x"]}, question(0), text(0)),
    "printed answers": (
        lambda i: {"question": question(i), "context": text(i), "answers": str({"text": [f"{i} mills"]})},
        *(f"{text(0)}\n\n{question(0)}", "0 mills"),
    ),
    "lists as answers": (lambda i: {"question": question(i), "answer": f"['a', {i}]"}, question(0), "['a', 0]"),
    "braintrust": (lambda i: {"input": question(i), "expected": text(i)}, question(0), text(0)),
}


@pytest.mark.parametrize("name", READ)
def test_data_sets_with_one_meaning_are_read(tmp_path: Path, name: str) -> None:
    row, prompt, completion = READ[name]
    path = write_jsonl(tmp_path / "rows.jsonl", map(row, range(8)))
    example = next(iter(read_examples(DataOptions(path=str(path)))))
    assert (example.prompt, example.completion) == (prompt, completion)


def two(i: int, **more: Any) -> dict[str, Any]:
    return {"question": question(i), "answer": text(i), **more}


def turns(i: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question(i)}], **more}


UNCLEAR: dict[str, Any] = {
    "judged answers": (lambda i: two(i, target=i % 2), "0"),
    "reflection": (
        lambda i: {"instruction": question(i), "input": "", "output": "?", "reflection": "bad", "corrected": text(i)},
        text(0),
    ),
    "ragas": (lambda i: two(i, ground_truth=f"{i} mills"), "0 mills"),
    "coqa": (
        lambda i: {"story": text(i), "questions": [question(i), "Why?"], "answers": {"input_text": ["mill", "oven"]}},
        "mill",
    ),
    "tags": (lambda i: {"tokens": [f"Town{i}", "mills"], "ner_tags": ["LOC", "O"]}, "LOC, O"),
    "printed labels": (lambda i: {"text": question(i), "label": "['mill', 'oven']"}, "mill, oven"),
    "uie": (
        lambda i: {
            "content": text(i),
            "prompt": "thing",
            "result_list": [{"text": f"{i} mills", "start": 1}] * (i < 7),
        },
        '["0 mills"]',
    ),
    "printed uie": (
        lambda i: {"content": text(i), "prompt": "thing", "result_list": str([{"text": f"{i} mills", "start": 1}])},
        '["0 mills"]',
    ),
    "triples": (
        lambda i: {"text": text(i), "spo_list": [{"subject": f"{i}", "predicate": "has", "object": "mills"}]},
        '[{"subject": "0", "predicate": "has", "object": "mills"}]',
    ),
    "entities and relations": (
        lambda i: {"text": text(i), "relations": [{"id": 1, "from_id": 1}], "entities": [{"id": 1, "label": "WORD"}]},
        'entities: [{"id": 1, "label": "WORD"}]\nrelations: [{"id": 1, "from_id": 1}]',
    ),
    "labels": (lambda i: {"text": question(i), "labels": ["mill", "oven"]}, "mill, oven"),
    "mistral": (lambda i: {"text": question(i), "labels": {"mood": "good"}}, "good"),
    "spans": (lambda i: {"text": question(i), "label": [[0, 4, "WORD"]]}, '[[0, 4, "WORD"]]'),
    "triplets": (lambda i: {"anchor": question(i), "positive": text(i), "negative": "no"}, text(0)),
    "retrieval": (lambda i: {"query": question(i), "relevant_passages": [text(i)], "hard_negatives": ["a"]}, text(0)),
    "steps": (lambda i: {"prompt": question(i), "completions": ["a", "b"], "labels": [True, False]}, "a\nb"),
    "identity": (
        lambda i: {"instruction": question(i), "input": "", "output": f"I am {{{{name}}}}, town {i}."},
        "I am {{name}}, town 0.",
    ),
    "history": (lambda i: {"history": [{"role": "user", "content": question(i)}], "response": text(i)}, text(0)),
    "textbook": (lambda i: {"prompt": question(i), "text": text(i), "audience": "all"}, text(0)),
    "segments": (
        lambda i: {"segments": [{"label": False, "text": question(i)}, {"label": True, "text": text(i)}]},
        text(0),
    ),
    "more segments": (
        lambda i: {"segments": [{"label": k % 2 == 1, "text": f"{text(i)} {k}"} for k in range(4)]},
        f"{text(0)} 3",
    ),
    "hc3": (lambda i: {"question": question(i), "human_answers": [text(i)], "chatgpt_answers": ["No."]}, text(0)),
    "s1k": (
        lambda i: {
            "question": question(i),
            "solution": "3",
            "thinking_trajectories": ["I count."],
            "attempt": text(i),
        },
        text(0),
    ),
    "commits": (lambda i: {"old_contents": f"x = {i}", "new_contents": f"y = {i}", "message": "Rename x"}, "y = 0"),
    "reinforcement": (lambda i: turns(i, reference_answer={"count": i}), "0"),
    "graded turns": (lambda i: turns(i, compliant="yes", why=text(i)), "yes"),
    "labelled turns": (lambda i: turns(i, labels={"mood": "good"}), "good"),
    "verl": (
        lambda i: {"prompt": turns(i)["messages"], "data_source": "x", "reward_model": {"ground_truth": str(i)}},
        "0",
    ),
    "prompts": (lambda i: {"prompt": question(i)}, question(0)),
    "better alone": (lambda i: {"prompt": question(i), "chosen": text(i)}, text(0)),
    "dpo turns": (
        lambda i: {
            "conversations": [{"from": "human", "value": question(i)}],
            "chosen": {"from": "gpt", "value": text(i)},
            "rejected": {"from": "gpt", "value": "no"},
        },
        text(0),
    ),
    "code": (lambda i: {"content": f"print({i})  # a line of code", "size": i, "max_stars_repo_path": "a.py"}, None),
    "open thoughts": (
        lambda i: {
            "problem": question(i),
            "deepseek_reasoning": "I count.",
            "deepseek_solution": text(i),
            "ground_truth_solution": "3",
        },
        text(0),
    ),
    "open math": (
        lambda i: {"expected_answer": "3", "problem": question(i), "generated_solution": text(i), "topic": "Sums"},
        text(0),
    ),
    "deep math": (
        lambda i: {"question": question(i), "final_answer": "3", "topic": "Sums", "r1_solution_1": text(i)},
        text(0),
    ),
    "flores": (
        lambda i: {"id": i, "topic": "x", "sentence_eng_Latn": question(i), "sentence_pol_Latn": text(i)},
        text(0),
    ),
    "languages": (lambda i: {"English": question(i), "Polish": text(i)}, text(0)),
    "code search": (
        lambda i: {"func_name": f"f{i}", "func_code_string": f"x = {i}", "func_documentation_string": text(i)},
        "x = 0",
    ),
    "flags": (
        lambda i: {"id": i, "comment_text": question(i), "toxic": i % 2, "threat": 0, "insult": 1},
        "toxic: 0, threat: 0, insult: 1",
    ),
    "concepts": (lambda i: {"concepts": ["mill", f"oven{i}"], "target": text(i)}, text(0)),
    "race": (
        lambda i: {
            "article": text(i),
            "questions": [question(i), "Why?"],
            "options": [["a", "b"], ["c", "d"]],
            "answers": ["B", "A"],
        },
        "B",
    ),
    "corrections": (lambda i: {"sentence": question(i), "corrections": [text(i), "x"]}, text(0)),
    "massive": (
        lambda i: {"utt": question(i), "annot_utt": f"[w : {question(i)}]", "intent": ("on", "off")[i % 2]},
        "on",
    ),
    "stack exchange": (
        lambda i: {"title_body": question(i), "upvoted_answer": text(i), "downvoted_answer": "No."},
        text(0),
    ),
    "polish": (
        lambda i: {"instrukcja": question(i), "odpowiedź": text(i), "kategoria": "ab"[i % 2]},
        text(0),
    ),
    "drop": (lambda i: {"passage": text(i), "question": question(i), "answers_spans": {"spans": [f"{i}"]}}, "0"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_others_are_one_fault_whose_first_settings_read_them(tmp_path: Path, name: str) -> None:
    row, completion = UNCLEAR[name]
    path = str(write_jsonl(tmp_path / "rows.jsonl", map(row, range(8))))
    (fault,) = validate(DataOptions(path=path)).errors
    settings = settings_of(fault.fix)[0]
    example = next(iter(read_examples(DataOptions(path=path, **data_options(settings)))))
    assert example.completion == (completion or row(0)["content"])


def test_choices_and_first_question_of_several_are_the_prompt(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", map(UNCLEAR["race"][0], range(8))))
    (fault,) = validate(DataOptions(path=path)).errors
    example = next(iter(read_examples(DataOptions(path=path, **data_options(settings_of(fault.fix)[0])))))
    assert example.prompt == f"{text(0)}\n\n{question(0)}\n\nA. a\nB. b"


def test_the_first_of_several_programs_is_said_to_be_the_completion(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", map(READ["apps"][0], range(120))))
    notes = prepare(DataOptions(path=path, near_duplicates=None)).report["notes"]
    assert "the first of solutions as the completion" in next(iter(notes.values()))


def test_choices_of_which_several_are_right_are_listed_as_unused(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", map(READ["truthful targets"][0], range(120))))
    assert prepare(DataOptions(path=path, near_duplicates=None)).report["unused"] == {"mc2_targets": 120}


def test_rows_in_which_nothing_is_found_are_read(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", map(UNCLEAR["uie"][0], range(8))))
    (fault,) = validate(DataOptions(path=path)).errors
    options = DataOptions(path=path, **data_options(settings_of(fault.fix)[0]))
    assert [example.completion for example in read_examples(options)][6:] == ['["6 mills"]', "[]"]


def test_a_weight_from_0_to_1_beside_texts_is_the_weight_of_the_row(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", [two(0, weight=1), two(1, weight=0.5)]))
    assert [example.weight for example in read_examples(DataOptions(path=path))] == [1, 0.5]


def test_another_weight_may_be_one_of_goods(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", [two(i, weight=350) for i in range(8)]))
    assert [fault.code for fault in validate(DataOptions(path=path)).errors] == ["unused-field"]

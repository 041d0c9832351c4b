"""Rows whose form no setting reads: a fault with the command that converts them, or with what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.conversations.roles import CONVERSATIONS, SPEAKERS, is_turn
from kamerton.errors import Fault
from kamerton.shell import new_name, path_setting

MANY = 20  # keys of an object with all prompts
CANDIDATES = "candidates"  # of the last turn of Amazon Nova's preferences
# Programs of jq, for one row each.
BETTER = "{prompt: .history, completion: (if .labels == 1 then .human_ref_A else .human_ref_B end)}"
PREFERRED = (
    '.messages[-1] |= ([.candidates[] | select(.preferenceLabel == "preferred")][0] as $best'
    " | {role, content: $best.content})"
)
QUESTIONS = (
    "select((.reference | length) == (.turns | length)) | {messages: [range(0; .turns | length) as $i"
    ' | {role: "user", content: .turns[$i]}, {role: "assistant", content: .reference[$i]}]}'
)
ANSWERED = (  # questions of MT-Bench, each with the answers of the model in another file
    "($answers | INDEX(.question_id)) as $by | inputs | $by[.question_id | tostring].choices[0].turns as $said"
    ' | select($said) | {messages: [range(0; $said | length) as $i | {role: "user", content: .turns[$i]},'
    ' {role: "assistant", content: $said[$i]}]}'
)
SPOKEN = (
    ".COLUMN[0].KEY as $first | {messages: [.COLUMN[]"
    ' | {role: (if .KEY == $first then "user" else "assistant" end), content: .TEXT}]}'
)
ANSWERS_BY_QUESTION = "to_entries[] | {prompt: .key, completion: .value}"
INTENTS = "(.intents? // [.])[] | VALUE as $answer | .patterns[] | {prompt: ., completion: $answer}"
UTTERANCES = (
    "group_by(.ID)[] | .[0].SPEAKER as $first | {messages: [.[]"
    ' | {role: (if .SPEAKER == $first then "user" else "assistant" end), content: .utterance}]}'
)
FIRST_CALLS = (  # of the values of an argument that are right, the first; "" is an argument that is left out
    "($answers | INDEX(.id)) as $by | inputs | select($by[.id]) | {tools: .function, messages: (.question[0] + [{"
    'role: "assistant", tool_calls: [$by[.id].ground_truth[] | to_entries[] | {type: "function", function: '
    '{name: .key, arguments: (.value | with_entries(select(.value[0] != "") | .value |= .[0]))}}]}])}'
)


def converted_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of a row in such a form; None for other rows."""
    if record.keys() >= {"history", "human_ref_A", "human_ref_B", "labels"}:
        message = "the rows are preferences (SHP: labels is 1 if human_ref_A is better)"
        fix = f"add objective=dpo to train on both; or, to train on the better answers, {converted_rows(BETTER, file)}"
        return Fault("unclear-columns", message, fix, column="labels")
    if candidate_turns(record.get("messages")):
        message = "the rows are preferences (Amazon Nova: candidates of the last turn)"
        better = converted_rows(PREFERRED, file)
        fix = f"add objective=dpo to train on both; or, to train on the better answers alone, {better}"
        return Fault("unused-field", message, fix, column="messages")
    if record.keys() >= {"patterns", "responses"} and isinstance(record["patterns"], list):
        tag = next((name for name in ("tag", "intent", "name") if name in record), "tag")
        first = converted_rows(INTENTS.replace("VALUE", f".{tag}"), file)
        then = converted_rows(INTENTS.replace("VALUE", ".responses[0]"), file)
        fix = f"to learn the {tag}, {first}; or, to learn the first response, {then}"
        return Fault("unclear-columns", "the rows are intents with patterns and responses", fix, column="patterns")
    if len(record) >= MANY and file.path.suffix == ".json" and all(map(_is_sentence, record)):
        message = "the file is one object, whose keys may be the prompts and whose values the completions"
        return Fault("unclear-columns", message, f"if so: {converted_rows(ANSWERS_BY_QUESTION, file)}", column="prompt")
    return (
        _utterance_fault(record, file)
        or _questions_fault(record, file)
        or _functions_fault(record, file)
        or _speakers_fault(record, file)
    )


def candidate_turns(value: object) -> list[Any] | None:
    """Return turns whose last one has candidates in place of its content; None for other values."""
    if not isinstance(value, list) or not value or not isinstance(value[-1], Mapping):
        return None
    return value if isinstance(value[-1].get(CANDIDATES), list) else None


def _utterance_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of single turns of conversations whose speakers are numbers or names (EmpatheticDialogues)."""
    name = next((name for name in CONVERSATIONS if name in record), None)
    speaker = next((name for name in ("speaker_idx", "speaker_id", *SPEAKERS) if name in record), None)
    if name is None or speaker is None or not isinstance(record.get("utterance"), str):
        return None
    program = UTTERANCES.replace("ID", name).replace("SPEAKER", speaker)
    message = f"the rows are single turns of conversations ({name}), and none of the speakers is named the assistant"
    fix = f"if the first speaker is the user, the others the assistant: {converted_rows(program, file, slurped=True)}"
    return Fault("unclear-columns", message, fix, column="utterance")


def _is_sentence(name: str) -> bool:
    return len(name.split()) > 2


def _questions_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of several questions of one user (MT-Bench), or of a model's answers to them."""
    column = "turns" if "turns" in record else "prompt"  # MT-Bench on Hugging Face
    turns, answers, choices = record.get(column), record.get("reference"), record.get("choices")
    if "question_id" in record and isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        if not isinstance(choices[0].get("turns"), list):
            return None
        message = "the rows are answers of a model to the questions of another file (MT-Bench)"
        questions = _first_file(file.path.parent.parent, "question.jsonl") or "QUESTIONS.jsonl"
        return Fault("unclear-columns", message, _join_answers(questions, file.path, file), column="choices")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        return None
    if not {"question_id", "reference"} & record.keys() or is_turn(turns[0]):
        return None
    message = f"{column} has questions of one user, without answers between them (MT-Bench)"
    said = _first_file(file.path.parent, "model_answer/*.jsonl") or "MODEL_ANSWERS.jsonl"
    fix = _join_answers(file.path, said, file)
    if column == "prompt":
        fix = "give the answers as well: the turns of messages, or a column reference with an answer for each question"
    if isinstance(answers, list) and len(answers) == len(turns):
        fix = f"to train on the references, {converted_rows(QUESTIONS.replace('.turns', f'.{column}'), file)}"
    return Fault("unclear-columns", message, fix, column=column)


def _first_file(folder: Path, pattern: str) -> Path | None:
    """Return the first of the files of a pattern; None without any."""
    return min(folder.glob(pattern), default=None)


def _join_answers(questions: Path | str, answers: Path | str, file: DataFile) -> str:
    """Return the command that joins the questions and the answers of MT-Bench, and the new setting."""
    new = new_name(file.path, "-chats.jsonl")
    names = shlex.quote(str(answers)), shlex.quote(str(questions))
    command = f"jq -nc --slurpfile answers {names[0]} {shlex.quote(ANSWERED)} {names[1]} > {new}"
    return f"join the questions and the answers: {command}, then {path_setting(new, file.split)}"


def _functions_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of questions with functions whose calls are in another file (BFCL)."""
    questions, functions = record.get("question"), record.get("function")
    if not isinstance(questions, list) or not isinstance(functions, list) or "id" not in record:
        return None
    if not questions or not isinstance(questions[0], list) or not all(map(is_turn, questions[0])):
        return None
    message = "the rows are questions with functions (BFCL), and their calls are in another file"
    new = new_name(file.path, ".jsonl")
    answers = shlex.quote(str(file.path.parent / "possible_answer" / file.path.name))
    command = f"jq -nc --slurpfile answers {answers} {shlex.quote(FIRST_CALLS)} {shlex.quote(str(file.path))} > {new}"
    fix = f"join both files: {command}, then {path_setting(new, file.split)}"
    if len(questions) > 1:
        fix = "write each row as messages, with the calls and their results, and tools"
    return Fault("unclear-columns", message, fix, column="question")


def _speakers_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of turns whose speakers have names, so that the assistant is unknown."""
    for column, turns in record.items():
        if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, Mapping) for turn in turns):
            continue
        key = next((key for key in SPEAKERS if isinstance(turns[0].get(key), str)), None)
        text = next((name for name in ("text", "utterance", "content", "message") if name in turns[0]), None)
        if key is None or text is None or (text != "utterance" and any(map(is_turn, turns))):
            continue
        names = list(dict.fromkeys(str(turn.get(key)) for turn in turns))
        message = f"the turns of {column} are those of {', '.join(names[:4])}, and none of them is named the assistant"
        program = SPOKEN.replace("COLUMN", column).replace("KEY", key).replace("TEXT", text)
        first = "the first speaker is the user, the others the assistant"
        return Fault("unclear-columns", message, f"if {first}: {converted_rows(program, file)}", column=column)
    return None


def converted_rows(program: str, file: DataFile, *, slurped: bool = False) -> str:
    """Return a command that writes the records of a JSON file, each changed by a program of jq, and the new setting.

    With `slurped`, the program changes the list of all records.
    """
    new = new_name(file.path, ".jsonl")
    is_plain = file.format == "jsonl" and not file.member and file.path.suffix in (".json", ".jsonl", ".ndjson")
    old = shlex.quote(str(file.path)) if is_plain else "ROWS.jsonl"
    each = program if slurped else f'if type == "array" then .[] else . end | {program}'
    command = f"jq -c{'s' * slurped} {shlex.quote(each)} {old} > {new}"
    before = "" if is_plain else "write the rows as JSON Lines to ROWS.jsonl, then "
    return f"{before}{command}, then {path_setting(new, file.split)}"

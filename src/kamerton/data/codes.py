"""The fault codes of the data stage: their meaning, default action and permitted actions.

The actions: `error` refuses the data, `drop` leaves the row out, `fix` repairs it, `warn` only reports it. Dropped and
fixed rows are counted and written to the rejects file. The defaults refuse or drop data that would corrupt a run and
warn about the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from kamerton.errors import Fault


@dataclass(frozen=True, slots=True)
class Code:
    """The actions that a policy may choose (the first is the default) and the meaning, as documented."""

    actions: tuple[str, ...]
    meaning: str


_REFUSE = ("error",)
_UNUSABLE = ("error", "drop")
_FIXABLE = ("error", "fix", "drop")
_DOUBTFUL = ("warn", "drop", "error")
_CLEANABLE = ("warn", "fix", "drop", "error")

CODES: dict[str, Code] = {
    # configuration and whole files
    "bad-value": Code(_REFUSE, "a setting that cannot be used"),
    "missing-file": Code(_REFUSE, "no such file, directory or match of a pattern"),
    "empty-file": Code(_REFUSE, "a file without a row"),
    "wrong-extension": Code(_REFUSE, "a file name that does not fit its format"),
    "unreachable": Code(_REFUSE, "an address whose host does not answer, or answers with an error"),
    "missing-package": Code(_REFUSE, "an address that needs a package which is not installed"),
    "insecure-address": Code(("warn", "error"), "data fetched over http, which may be changed on the way"),
    "no-permission": Code(_REFUSE, "a file or an address that may not be read"),
    "unreadable-file": Code(
        _REFUSE, "a file whose content does not fit its name, or that is truncated (compressed files, Parquet)"
    ),
    "file-changed": Code(_REFUSE, "a file that is written to while it is read"),
    "missing-header": Code(_REFUSE, "a table whose first line looks like data, so that its columns have no names"),
    "duplicate-column": Code(_REFUSE, "two columns with one name in a header"),
    "unknown-column": Code(_REFUSE, "a column named in the configuration that no row of the file has"),
    "unclear-columns": Code(_REFUSE, "columns that may mean several things; the fix has the settings that read them"),
    "too-few-rows": Code(_REFUSE, "a split without rows"),
    "not-read": Code(
        ("warn", "error"),
        "files of another supported format (by their endings), or folders, in a directory that is read",
    ),
    "split-names": Code(
        ("warn", "error"),
        "files, or a column, with the names of splits, among files or rows that are split together, or a column that "
        "names another split than that of its file",
    ),
    "unused-setting": Code(
        ("warn", "error"), "a setting of another format than those of the files, or without effect on their rows"
    ),
    # rows that cannot be read
    "undecodable-byte": Code(_UNUSABLE, "a byte that is not in the file's encoding"),
    "bad-json": Code(_UNUSABLE, "a line that is not JSON"),
    "not-an-object": Code(_UNUSABLE, "a line of JSON that is not an object"),
    "repeated-key": Code(_UNUSABLE, "a line of JSON in which an object has one key twice"),
    "bad-csv": Code(_UNUSABLE, "a record with broken quoting"),
    "wrong-field-count": Code(_UNUSABLE, "a record with more or fewer fields than the header"),
    "row-too-large": Code(_UNUSABLE, "a line of more than 64 MiB"),
    "bad-trec": Code(_UNUSABLE, "a line that is not a labelled TREC question"),
    # rows that do not fit
    "missing-field": Code(_UNUSABLE, "no prompt, completion, label, text or messages in the row"),
    "empty-field": Code(_UNUSABLE, "a blank field"),
    "not-a-string": Code(_FIXABLE, "a number or boolean in place of a text (fix: converted)"),
    "not-text": Code(_UNUSABLE, "a list, an object or another value in place of a text"),
    "bad-choice": Code(_UNUSABLE, "an answer that names none of the choices of its row"),
    "bad-messages": Code(_UNUSABLE, "invalid chat turns, or a chat without an assistant's turn to train on"),
    "trailing-turns": Code(_FIXABLE, "turns after the last one that is trained on (fix: removed)"),
    "bad-export": Code(
        _UNUSABLE, "a row of another program's export that holds no conversation, or no answer of its annotators"
    ),
    "bad-preference": Code(
        _UNUSABLE, "completions that cannot be compared: none is better, two are the same, or their prompts differ"
    ),
    "bad-weight": Code(_UNUSABLE, "a weight of the row in the loss that is not a number from 0 to 1,000,000"),
    # calls, reasoning and definitions of functions
    "bad-tools": Code(_UNUSABLE, "definitions of functions that cannot be read"),
    "tools-schema": Code(("error", "drop", "warn"), "parameters of a function that are not a valid JSON schema"),
    "unknown-function": Code(("error", "drop", "warn"), "a call of a function that the row's `tools` do not define"),
    "bad-arguments": Code(_UNUSABLE, "a call that is not JSON, or whose arguments are not a JSON object"),
    "null-arguments": Code(
        ("error", "fix", "drop", "warn"),
        "arguments that are null and that the function does not take as null, as tables add them (fix: removed)",
    ),
    "arguments-schema": Code(
        ("error", "drop", "warn"), "arguments of a call that do not fit the JSON schema of the function's parameters"
    ),
    "stray-result": Code(("error", "drop", "warn"), "the result of a call without a call before it"),
    "unanswered-call": Code(
        ("error", "drop", "warn"),
        "a call without a result before the next turn; at the end of a conversation none is needed",
    ),
    "call-id": Code(
        ("error", "drop", "warn"), "ids or names of calls and their results that do not match, or an id of two calls"
    ),
    "call-form": Code(
        _CLEANABLE,
        "a system turn that asks for calls in another form than the template's (fix: sentence removed)",
    ),
    "misplaced-call": Code(_UNUSABLE, "a call in a turn that is not the assistant's"),
    "misplaced-reasoning": Code(_FIXABLE, "reasoning in a turn that is not the assistant's (fix: removed)"),
    # columns and schemas
    "unused-field": Code(
        _DOUBTFUL,
        "a column or a field of turns that the model is not shown (by default an error if it changes the meaning of "
        "the row; drop: such rows)",
    ),
    "mixed-schemas": Code(("error", "drop", "warn"), "rows of another schema than most of the file"),
    # texts
    "control-characters": Code(_CLEANABLE, "invisible or lost characters (fix: removed)"),
    "mojibake": Code(_CLEANABLE, "text decoded with the wrong encoding, as in `cafÃ©` (fix: repaired)"),
    "not-nfc": Code(_CLEANABLE, "characters in decomposed form (fix: Unicode NFC)"),
    "outer-whitespace": Code(_CLEANABLE, "spaces around a text (fix: stripped)"),
    "half-surrogate": Code(_UNUSABLE, "half of a surrogate pair, which is not a character"),
    # rows against rows
    "exact-duplicate": Code(("drop", "warn", "error"), "the same prompt and completion again in one split"),
    "near-duplicate": Code(_DOUBTFUL, "nearly the same words as another row"),
    "contradiction": Code(
        _DOUBTFUL, "one prompt with different labels, or a pair and its opposite (drop: all of them)"
    ),
    "leakage": Code(("drop", "warn", "error"), "a prompt of the validation or test split that is trained on as well"),
    "near-leakage": Code(("drop", "warn", "error"), "a near duplicate of a validation or test row that is trained on"),
    "outlying-length": Code(_DOUBTFUL, "far longer or shorter than the other rows"),
    "outlying-language": Code(_DOUBTFUL, "another script than nearly all other rows"),
    "outlying-format": Code(_DOUBTFUL, "another form of completion (JSON, number, ...) than nearly all other rows"),
    # fields that splits use
    "missing-metadata": Code(
        _REFUSE, "a row without a value in the metadata field that the split groups, stratifies or orders by"
    ),
    "bad-time": Code(
        _REFUSE, "neither a number nor an ISO date, or both in one column, in the field that orders a split by time"
    ),
    # labels
    "unknown-label": Code(_UNUSABLE, "a completion that is not among the given labels"),
    "label-spelling": Code(
        ("error", "fix", "warn"),
        "a label spelt two ways: other case, spaces or Unicode form (fix: the more frequent spelling)",
    ),
    "numeric-labels": Code(("warn", "error"), "labels that are numbers from 0 or 1, without names (data.label_names)"),
    "label-imbalance": Code(("warn", "error"), "the most frequent label has over 20 times the rows of the rarest"),
    "rare-label": Code(("warn", "error"), "a label with fewer than 5 training rows"),
    "label-missing": Code(("warn", "error"), "a label without rows in a split"),
    "one-completion": Code(("warn", "error"), "one completion in all rows, which is learnt whatever the prompt is"),
    "few-rows": Code(("warn", "error"), "a split with fewer than 20 rows"),
    # tokens
    "template-error": Code(_UNUSABLE, "a chat that the tokenizer's template rejects"),
    "special-tokens": Code(
        _DOUBTFUL, "the string of a control token, such as `<|im_end|>`, in a text: read as text (data.control_tokens)"
    ),
    "dropped-turn": Code(
        ("error", "drop", "warn"),
        "a turn, or its calls or reasoning, that the tokenizer's template omits, as some do with a second system turn",
    ),
    "untrained-turns": Code(
        ("warn", "error"), "assistant turns with a weight that are not targets, because no turn precedes them"
    ),
    "parity": Code(
        ("error", "warn"), "trained tokens that are not those at inference (found by `kamerton prepare --parity`)"
    ),
    "no-targets": Code(_UNUSABLE, "a row without a token to train on"),
    "too-long": Code(_REFUSE, "more tokens than data.max_length or the model's positions; see data.overlong"),
    "unknown-token": Code(_REFUSE, "a token of the tokenizer without an embedding in the model"),
    "lost-targets": Code(("warn", "error"), "target tokens cut off by data.max_length"),
}


def action(policy: Mapping[str, str | None], code: str) -> str:
    """Return the action for faults of this code; a policy of None is the default."""
    return policy.get(code) or CODES[code].actions[0]


def check_policy(policy: Mapping[str, str | None]) -> list[Fault]:
    """Return a fault for each unknown code and each action that its code does not permit."""
    faults = []
    for code, chosen in policy.items():
        key = f"data.policy.{code}"
        if code not in CODES:
            near = difflib.get_close_matches(code, CODES, n=1)
            fix = f"did you mean {near[0]}?" if near else f"the codes are {', '.join(CODES)}"
            faults.append(Fault("bad-value", f"unknown fault code {code!r}", fix, column=key))
        elif chosen is not None and chosen not in CODES[code].actions:
            fix = f"set {key} to {' or '.join(CODES[code].actions)}"
            faults.append(Fault("bad-value", f"{chosen!r} is not an action for {code}", fix, column=key))
    return faults

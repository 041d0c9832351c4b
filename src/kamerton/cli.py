"""The command line: `kamerton <command> [key=value ...]`. Imports nothing heavy before it knows what to do.

Exit codes: 0 done, 1 failed, 2 bad configuration or data (every fault listed), 130 interrupted (resumable).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

HELP = """\
kamerton: fine-tune a language model, and say with numbers how good it became.

Usage: kamerton COMMAND [key=value ...]

Commands
  train     prepare data, fine-tune, score the test split, write a report
            kamerton train                                    the embedded model and data
            kamerton train data=jsonl data.path=my.jsonl      your own prompts and completions
            kamerton train -m optimizer.lr=1e-4,1e-3          one run for each value
            kamerton train run_id=ID                          go on with an interrupted run
            kamerton train --help                             every group and key
  prepare   the data gate alone: every fault of the data, and a report
            kamerton prepare data=csv data.path=raw.csv
            kamerton prepare --show 3                         examples, with what is trained on in colour
  version   print the version

Shell completion of groups, options and keys:
  eval "$(kamerton train -sc install=bash)"                   also fish, zsh

Exit codes: 0 done, 1 failed, 2 bad configuration or data, 130 interrupted (resumable)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit code."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if command in ("version", "--version"):
        from kamerton import __version__

        print(f"kamerton {__version__}")
        return 0
    if command == "-sc":  # what an installed shell completion asks, with the whole line that is being typed
        os.environ["COMP_LINE"] = os.environ.get("COMP_LINE", "").replace("kamerton train", "kamerton", 1)
        command, rest = "train", ["-sc", *rest]
    if command == "train":
        from kamerton.train.command import train_command

        return train_command(rest)
    if command == "prepare":
        from kamerton.data.command import prepare_command

        return prepare_command(rest)
    return _unknown(command)


def _unknown(command: str) -> int:
    from kamerton.words import did_you_mean

    fix = did_you_mean(command, ["train", "prepare", "version"])
    print(f"kamerton: unknown command {command!r}\n    fix: {fix}; see kamerton --help", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `kamerton <command> [key=value ...]`. Imports nothing heavy before the command is known.

Exit codes: 0 done, 1 failed, 2 bad configuration or data (every fault listed), 3 regression gate failed, 130
interrupted (resumable).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pkgutil import resolve_name

from hydra_plugins.kamerton import _jobs
from kamerton.output import drop_output, echo, outlive_reader, replace_unencodable

HELP = """\
kamerton: fine-tune a language model and measure the result.

Usage: kamerton COMMAND [key=value ...]

Commands
  train     prepare data, fine-tune, score the test split, write a report
            kamerton train                                    the embedded model and data
            kamerton train data.path=my.jsonl                 your own prompts and completions
            kamerton train -m optimizer.lr=1e-4,1e-3          one run for each value
            kamerton train sweep=lr_batch                     search for the best learning rate and batch size
            kamerton train objective=dpo data.path=my.jsonl   from preferences: better and worse completions
            kamerton train objective=grpo reward=exact_match  from rewards of its own answers
            kamerton train … run_id=ID                        the same command again: resumes an interrupted run
            kamerton train --help                             every group and key
  prepare   check the data alone: every fault of it, and a report
            kamerton prepare data.path=raw.csv
            kamerton prepare --show 3                         examples, with the trained text in colour
  evaluate  any run, checkpoint, model or hosted model on any data, with intervals
            kamerton evaluate run=outputs/trec/ID                                   on its own test split
            kamerton evaluate run=outputs/trec/ID data.test=new.jsonl                on other data
  compare   which model is better on the same examples, with intervals, and a regression gate
            kamerton compare 'runs=[outputs/trec/*]'          every run against its base model
            kamerton compare runs=[NEW] baseline=OLD gate.max_drop.accuracy=0.01
  runs      the runs of a folder, and jobs: list, show, watch, stop, pause, resume, logs
            kamerton runs                                     a table of all, however they were started
            kamerton runs watch ID                            a live screen
            kamerton runs resume ID                           resume in the background
  serve     an OpenAI-compatible API on this machine: files, fine-tuning jobs, models, chat
            kamerton serve --tokens tokens.txt                (docs/how-to/server.md)
  version   print the version

Shell completion of groups, options and keys:
  eval "$(kamerton train -sc install=bash)"                   also fish, zsh

Exit codes: 0 done, 1 failed, 2 bad configuration or data, 3 regression gate failed, 130 interrupted (resumable)
"""

# Imported on use: each imports torch or Hydra.
COMMANDS = {
    name: f"kamerton.commands.{name}:{name}_command" for name in ("train", "prepare", "evaluate", "compare", "serve")
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit code."""
    if arguments is None:
        with suppress(FileNotFoundError):  # the current folder has been deleted
            # The folder may contain downloaded modules; keep child processes from importing them if this one does not.
            here = os.path.realpath("")
            if not any(os.path.realpath(entry) == here for entry in sys.path):
                os.environ["PYTHONSAFEPATH"] = "1"
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    replace_unencodable()
    if command == "runs":  # only shows runs: without a reader it may stop
        return _runs(rest)
    outlive_reader()
    if command in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if command in ("version", "--version"):
        from kamerton import __version__

        print(f"kamerton {__version__}")
        return 0
    if not _in_a_folder():
        return 2
    _quiet_frameworks()
    if command == "-sc":  # from an installed shell completion, with the line that is being typed
        os.environ["COMP_LINE"] = os.environ.get("COMP_LINE", "").replace("kamerton train", "kamerton", 1)
        command, rest = "train", ["-sc", *rest]
    _jobs.command[:] = [sys.executable, "-P", "-m", "kamerton", command]  # what hydra/launcher=process starts
    if command not in COMMANDS:
        from kamerton.words import did_you_mean

        fix = did_you_mean(command, [*COMMANDS, "runs", "version"])
        print(f"kamerton: unknown command {command!r}\n    fix: {fix}; see kamerton --help", file=sys.stderr)
        return 2
    run: Callable[[Sequence[str]], int] = resolve_name(COMMANDS[command])
    return run(rest)


def _quiet_frameworks() -> None:
    from kamerton.quiet import quiet_frameworks  # not for --help: logging takes time to import

    quiet_frameworks()


def _in_a_folder() -> bool:
    """Whether the current folder exists; reports a deleted one, since every relative path needs it."""
    try:
        os.getcwd()
    except OSError:
        fault = "error: the current folder no longer exists [folder.gone]\n    fix: cd to a folder that does"
        echo(fault, err=True)
        return False
    return True


def _runs(arguments: Sequence[str]) -> int:
    if not _in_a_folder():
        return 2
    _quiet_frameworks()
    from kamerton.commands.runs import runs_command

    try:
        code = runs_command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        drop_output()
        return 1


if __name__ == "__main__":
    sys.exit(main())

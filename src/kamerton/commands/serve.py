"""`kamerton serve`: serve the fine-tuning API on a port of this machine."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kamerton.config.compose import config_loader
from kamerton.config.flags import reject_flag
from kamerton.errors import Fault, UserError
from kamerton.output import echo, print_faults
from kamerton.words import did_you_mean

if TYPE_CHECKING:
    from kamerton.server.settings import Settings

COMMAND_LINE = "command line"


def serve_command(arguments: Sequence[str]) -> int:
    """Run `kamerton serve` with these arguments until it is stopped; return the exit code."""
    try:
        options = _parser().parse_args(list(arguments))
        settings = to_settings(options)
        _check_port(options.host, options.port)
    except UserError as error:
        print_faults(error.faults)
        return 2
    except SystemExit as exit:  # raised by argparse after the help
        return exit.code if isinstance(exit.code, int) else 1
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises the signal again when it ends
    try:
        return _serve(settings, options.host, options.port)
    except KeyboardInterrupt:  # SIGTERM or Ctrl-C: a regular shutdown; jobs continue
        return 0
    finally:
        signal.signal(signal.SIGTERM, handler)


def _serve(settings: Settings, host: str, port: int) -> int:
    import uvicorn

    from kamerton.server.app import create_app
    from kamerton.server.connections import max_connections
    from kamerton.server.protocol import Protocol, Server
    from kamerton.server.routes.files import remove_remains

    tenants = ", ".join(sorted({tenant for tenant, _ in settings.tokens})) or "no token is needed"
    models = [*settings.names, *dict(settings.runs)]
    echo(f"runs in {settings.root}; models: {', '.join(models)}; tenants: {tenants}")
    remove_remains(settings)
    temporary = settings.root / ".files" / ".incoming"
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    tempfile.tempdir = str(temporary)  # for uploads: on the disk where they will be stored, not in memory
    options = uvicorn.Config(
        create_app(settings),
        host=host,
        port=port,
        http=Protocol,
        backlog=min(32, max_connections() // 4),  # accepted at once, before excess connections are closed
        ws="none",
        server_header=False,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(options)
    server.run()
    return 0 if server.started else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kamerton serve", description=__doc__, epilog="more in docs/how-to/server.md")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: only this machine)")
    parser.add_argument("--port", type=int, default=8000, help="(8000)")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="the folder of the runs (outputs)")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="lines `tenant token`; else KAMERTON_TOKENS")
    parser.add_argument("--no-auth", action="store_true", help="require no token; only on this machine")
    parser.add_argument("--models", default="smollm2", help="base models, options of the group model (smollm2)")
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="an alias of a base model, such as gpt-3.5-turbo=smollm2, for programs that request that name",
    )
    parser.add_argument(
        "--run",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a finished run of kamerton train, such as outputs/trec/ID, to query as the model ID; may be repeated",
    )
    parser.add_argument("--max-upload-mb", type=int, default=512, metavar="N", help="the largest file, in MiB (512)")
    parser.add_argument("--max-running", type=int, metavar="N", help="jobs that train at once (one per GPU, or one)")
    parser.add_argument(
        "--quantize", choices=["int8"], help="generate with weights rounded to 8 bits: faster on a CPU, nearly the same"
    )
    parser.error = partial(reject_flag, command="serve")  # type: ignore[method-assign]
    return parser


def to_settings(options: argparse.Namespace) -> Settings:
    """Return the checked settings of a command line. Raises `UserError` with every fault."""
    if missing := [
        name
        for name in ("fastapi", "llguidance", "uvicorn", "python_multipart")
        if importlib.util.find_spec(name) is None
    ]:
        message = f"kamerton serve needs {', '.join(missing)}, not installed here"
        raise UserError([Fault("serve.package", message, "pip install 'kamerton[serve]'")])
    from kamerton.server.settings import MIB, Settings

    models = tuple(dict.fromkeys(name for name in options.models.split(",") if name))
    root = options.root.expanduser().absolute()
    aliases = tuple({name: model for name, _, model in (text.partition("=") for text in options.alias)}.items())
    runs = tuple((path.name, path) for path in (run.expanduser().absolute() for run in options.run))
    faults = [
        *_model_faults(models),
        *_alias_faults(aliases, models),
        *_run_faults(runs),
        *_number_faults(options),
        *_root_faults(root),
    ]
    tokens: tuple[tuple[str, str], ...] = ()
    try:
        tokens = _tokens(options)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(faults)
    return Settings(
        root, tokens, models, aliases, runs, options.max_upload_mb * MIB, options.max_running, options.quantize
    )


def _tokens(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """Return the pairs of tenant and token from a file or the environment; empty with `--no-auth`."""
    from kamerton.server.auth import MAKE, VARIABLE, parse_tokens

    variable = os.environ.pop(VARIABLE, None)  # hidden from jobs
    if options.no_auth:
        try:
            is_loopback = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            message = f"--no-auth would admit everyone who can reach {options.host}"
            fix = f"leave out --host, or make a token and give --tokens tokens.txt: {MAKE}"
            raise UserError([Fault("serve.no-auth", message, fix, COMMAND_LINE, column="--no-auth")])
        return ()
    if options.tokens is not None:
        try:
            lines = options.tokens.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            message = f"cannot read it: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
            raise UserError([Fault("serve.tokens", message, "correct --tokens", str(options.tokens))]) from error
        return parse_tokens(lines, str(options.tokens))
    if variable is not None:
        return parse_tokens([pair.replace(":", " ", 1) for pair in variable.split(",")], VARIABLE)
    message = "a server needs tokens, one for each tenant"
    fix = f"make one and give --tokens tokens.txt: {MAKE}; or add --no-auth, only for programs of this machine"
    raise UserError([Fault("serve.tokens", message, fix, COMMAND_LINE, column="--tokens")])


def _model_faults(models: Sequence[str]) -> Iterator[Fault]:
    generic = ("hub", "openai")  # options without a model name
    options = [name for name in config_loader().get_group_options("model") if name not in generic]
    for name in models:
        if name not in options:
            fix = did_you_mean(name, options)
            yield Fault("serve.models", f"there is no model {name!r}", fix, COMMAND_LINE, column="--models")
    if not models:
        fix = f"name some of {', '.join(options)}"
        yield Fault("serve.models", "--models names no model", fix, COMMAND_LINE, column="--models")


def _alias_faults(aliases: Sequence[tuple[str, str]], models: Sequence[str]) -> Iterator[Fault]:
    def fault(message: str, fix: str) -> Fault:
        return Fault("serve.alias", message, fix, COMMAND_LINE, column="--alias")

    for name, model in aliases:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name in models:
            fix = "give NAME=MODEL, where NAME consists of letters, digits, dots and dashes and is not a base model"
            yield fault(f"{name!r} cannot be an alias of a model", fix)
        if model not in models:
            yield fault(f"--alias {name}={model}: {model!r} is not in --models", did_you_mean(model, models))


def _run_faults(runs: Sequence[tuple[str, Path]]) -> Iterator[Fault]:
    from kamerton.server.ids import job_record

    for _, path in runs:
        state = job_record(path).state
        if state != "succeeded" or not (path / "model").is_dir():
            reason = f"is {state}" if state not in (None, "succeeded") else "is not a run with a model"
            fix = "give the folder of a finished run; kamerton runs lists them"
            yield Fault("serve.run", f"{path} {reason}", fix, COMMAND_LINE, column="--run")
    for name, count in Counter(name for name, _ in runs).items():
        if count > 1:
            yield Fault(
                "serve.run", f"{count} runs are named {name}", "serve one of them", COMMAND_LINE, column="--run"
            )


def _number_faults(options: argparse.Namespace) -> Iterator[Fault]:
    bounds = {"port": (0, 65535), "max_upload_mb": (1, 2**20), "max_running": (1, 2**20)}
    for name, (lower, upper) in bounds.items():
        value = getattr(options, name)
        if value is not None and not lower <= value <= upper:
            flag = f"--{name.replace('_', '-')}"
            fix = f"give a number from {lower} to {upper:,}"
            yield Fault("serve.value", f"{flag} is {value}", fix, COMMAND_LINE, column=flag)


def _check_port(host: str, port: int) -> None:
    """Raise `UserError` if the server cannot listen on this address and port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        fix = "give another --port, or stop the program that listens there; --host must be an address of this machine"
        message = f"cannot listen on {host}, port {port}: {error.strerror}"
        raise UserError([Fault("serve.port", message, fix, COMMAND_LINE)]) from error


def _root_faults(root: Path) -> Iterator[Fault]:
    folder = next(path for path in (root, *root.parents) if path.exists())
    if not folder.is_dir():
        yield Fault("serve.root", f"{folder} is not a folder", "give a folder", COMMAND_LINE, column="--root")
    elif not os.access(folder, os.W_OK):
        yield Fault("serve.root", f"{folder} is not writable", "give another folder", COMMAND_LINE, column="--root")

"""`kamerton serve`: the API on a port of this machine."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import tempfile
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
    """Everything between the command line and the server; returns the exit code when it ends."""
    try:
        asked = _parser().parse_args(list(arguments))
        settings = to_settings(asked)
        _check_free(asked.host, asked.port)
    except UserError as error:
        print_faults(error.faults)
        return 2
    except SystemExit as exit:  # after help
        return exit.code if isinstance(exit.code, int) else 1
    return _serve(settings, asked.host, asked.port)


def _serve(settings: Settings, host: str, port: int) -> int:
    """Answer requests until SIGTERM or Ctrl-C, which end the server alone, in order: 0."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again at its end
    try:
        return _answer(settings, host, port)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


def _answer(settings: Settings, host: str, port: int) -> int:
    import uvicorn

    from kamerton.server.app import create_app
    from kamerton.server.connections import max_connections
    from kamerton.server.protocol import Protocol, Server
    from kamerton.server.routes.files import remove_remains

    tenants = ", ".join(sorted({tenant for tenant, _ in settings.tokens})) or "no token is needed"
    echo(f"runs in {settings.root}; models: {', '.join(settings.names)}; tenants: {tenants}")
    remove_remains(settings)
    temporary = settings.root / ".files" / ".incoming"
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    tempfile.tempdir = str(temporary)  # uploads: where they will stay, and not in memory
    options = uvicorn.Config(
        create_app(settings),
        host=host,
        port=port,
        http=Protocol,
        backlog=min(32, max_connections() // 4),  # accepted at once, before any is closed
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
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="(8000)")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="the folder of the runs (outputs)")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="lines `tenant token`; else KAMERTON_TOKENS")
    parser.add_argument("--no-auth", action="store_true", help="ask for no token; on this machine alone")
    parser.add_argument("--models", default="smollm2", help="base models, options of the group model (smollm2)")
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="another name of a base model, such as gpt-3.5-turbo=smollm2, for programs that ask for that one",
    )
    parser.add_argument("--max-upload-mb", type=int, default=512, metavar="N", help="the largest file, in MiB (512)")
    parser.add_argument(
        "--max-running", type=int, metavar="N", help="jobs that train at once (one for each GPU, or one)"
    )
    parser.error = partial(reject_flag, command="serve")  # type: ignore[method-assign]
    return parser


def to_settings(asked: argparse.Namespace) -> Settings:
    """What was asked, checked; raises `UserError` with everything that is wrong with it."""
    if missing := [
        name for name in ("fastapi", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None
    ]:
        message = f"kamerton serve needs {', '.join(missing)}, not installed here"
        raise UserError([Fault("serve.package", message, "pip install 'kamerton[serve]'")])
    from kamerton.server.settings import MIB, Settings

    models = tuple(dict.fromkeys(name for name in asked.models.split(",") if name))
    root = asked.root.expanduser().absolute()
    aliases = tuple(dict(_pair(text) for text in asked.alias).items())
    faults = [*_wrong_models(models), *_wrong_aliases(aliases, models), *_wrong_numbers(asked), *_wrong_root(root)]
    tokens: tuple[tuple[str, str], ...] = ()
    try:
        tokens = _tokens(asked)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(faults)
    return Settings(root, tokens, models, aliases, asked.max_upload_mb * MIB, asked.max_running)


def _tokens(asked: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    from kamerton.server.auth import MAKE, VARIABLE, parse_tokens

    given = os.environ.pop(VARIABLE, None)  # out of sight of the jobs
    if asked.no_auth:
        if not _is_loopback(asked.host):
            message = f"--no-auth would let everyone in who reaches {asked.host}"
            fix = f"leave out --host, or make a token and give --tokens tokens.txt: {MAKE}"
            raise UserError([Fault("serve.no-auth", message, fix, COMMAND_LINE, column="--no-auth")])
        return ()
    if asked.tokens is not None:
        return parse_tokens(_lines(asked.tokens), str(asked.tokens))
    if given is not None:
        return parse_tokens([pair.replace(":", " ", 1) for pair in given.split(",")], VARIABLE)
    message = "a server needs tokens, one for each tenant"
    fix = f"make one and give --tokens tokens.txt: {MAKE}; or add --no-auth, for programs of this machine alone"
    raise UserError([Fault("serve.tokens", message, fix, COMMAND_LINE, column="--tokens")])


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        fault = Fault("serve.tokens", f"cannot read it: {reason}", "correct --tokens", str(file))
        raise UserError([fault]) from error


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong_models(models: Sequence[str]) -> Iterator[Fault]:
    nameless = ("hub", "openai")  # they name no model themselves
    known = [name for name in config_loader().get_group_options("model") if name not in nameless]
    for name in models:
        if name not in known:
            fix = did_you_mean(name, known)
            yield Fault("serve.models", f"there is no model {name!r}", fix, COMMAND_LINE, column="--models")
    if not models:
        yield Fault(
            "serve.models", "no model is named", f"name some of {', '.join(known)}", COMMAND_LINE, column="--models"
        )


def _pair(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    return name, model


def _wrong_aliases(aliases: Sequence[tuple[str, str]], models: Sequence[str]) -> Iterator[Fault]:
    def fault(message: str, fix: str) -> Fault:
        return Fault("serve.alias", message, fix, COMMAND_LINE, column="--alias")

    for name, model in aliases:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name in models:
            fix = "give it as NAME=MODEL, a NAME of letters, digits, dots and dashes that is no base model's"
            yield fault(f"{name!r} cannot be another name of a model", fix)
        if model not in models:
            yield fault(f"--alias {name}={model}: {model!r} is not in --models", did_you_mean(model, models))


def _wrong_numbers(asked: argparse.Namespace) -> Iterator[Fault]:
    bounds = {"port": (0, 65535), "max_upload_mb": (1, 2**20), "max_running": (1, 2**20)}
    for name, (least, most) in bounds.items():
        value = getattr(asked, name)
        if value is not None and not least <= value <= most:
            flag = f"--{name.replace('_', '-')}"
            fix = f"give a number from {least} to {most:,}"
            yield Fault("serve.value", f"{flag} is {value}", fix, COMMAND_LINE, column=flag)


def _check_free(host: str, port: int) -> None:
    """Raises `UserError` where nobody can listen."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        fix = "give another --port, or stop what listens there; --host is an address of this machine"
        message = f"cannot listen on {host}, port {port}: {error.strerror}"
        raise UserError([Fault("serve.port", message, fix, COMMAND_LINE)]) from error


def _wrong_root(root: Path) -> Iterator[Fault]:
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir():
        yield Fault("serve.root", f"{there} is not a folder", "give a folder", COMMAND_LINE, column="--root")
    elif not os.access(there, os.W_OK):
        yield Fault("serve.root", f"{there} cannot be written to", "give another folder", COMMAND_LINE, column="--root")

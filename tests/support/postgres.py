"""A real PostgreSQL server for the length of a test, from Debian's packages or the PATH."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import free_port

PASSWORD = "correct-horse-battery"
_USERS = ("postgres", "nobody")  # whom root may run the server as, which refuses to run as root
_WAIT = ("-w", "-t", "600")


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if _programs() is None:
        return "initdb and pg_ctl are not installed (Debian: postgresql)"
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or _user() is None):
        return "root cannot run PostgreSQL, and setpriv or another user is missing"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Return the URL of an empty database that requires a password."""
    programs = _programs()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="kamerton-pg-") as folder:
        root, data = Path(folder), Path(folder) / "data"
        (root / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            user = pwd.getpwnam(_user() or "nobody")
            for path in (root, root / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        port = free_port()
        make = ("-U", "kamerton", "-A", "scram-sha-256", f"--pwfile={root / 'password'}", "--no-sync")
        _run(programs / "initdb", "-D", str(data), "-E", "UTF8", "--locale=C", *make)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} -c fsync=off"
        _run(programs / "pg_ctl", "-D", str(data), "-l", str(root / "log"), "-o", options, *_WAIT, "start")
        try:
            yield f"postgresql://kamerton:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            _run(programs / "pg_ctl", "-D", str(data), "-m", "immediate", *_WAIT, "stop")


def _run(program: Path, *arguments: str) -> None:
    user = _user()
    who = (
        ["setpriv", f"--reuid={user}", f"--regid={_group(user)}", "--clear-groups"]
        if os.geteuid() == 0 and user
        else []
    )
    done = subprocess.run([*who, str(program), *arguments], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()


def _programs() -> Path | None:
    result = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return result[-1].parent if result else Path(on_path).parent if on_path else None


def _user() -> str | None:
    names = {item.pw_name for item in pwd.getpwall()}
    return next((name for name in _USERS if name in names), None)


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid

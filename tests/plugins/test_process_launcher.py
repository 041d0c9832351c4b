"""`hydra/launcher=process` for any Hydra application: the same jobs as in one process, each in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.kamerton._gpus import free_gpus, visible_gpus

APP = """
import json, os, signal, subprocess, sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra_plugins.kamerton import _jobs
from omegaconf import OmegaConf

@hydra.main(version_base="1.3", config_path="conf", config_name="app")
def main(config):
    here = HydraConfig.get()
    folder = Path(here.runtime.output_dir)
    print("job", here.job.num, "says", config.text)
    (folder / "seen.json").write_text(json.dumps({
        "config": OmegaConf.to_container(config, resolve=True), "number": here.job.num, "id": here.job.id,
        "task": list(here.overrides.task), "trial": os.environ.get("KAMERTON_TRIAL"),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}))
    (folder / "process.json").write_text(json.dumps({"pid": os.getpid(), "typed": sys.orig_argv}))
    if config.end == "killed" and config.x == 2:
        print("eating memory")
        os.kill(os.getpid(), signal.SIGKILL)
    if config.end == "error" and config.x == 2:
        raise ValueError("two is bad")
    if config.end == "object":
        return object()
    if config.end == "exit":
        sys.exit(3)
    if config.end == "wait":
        def heed(number, frame):
            with (folder / "heeded").open("a") as file:
                print(signal.Signals(number).name, file=file)
            sys.exit(0)
        signal.signal(signal.SIGINT, heed)
        signal.signal(signal.SIGTERM, heed)
        left_behind = subprocess.Popen(["sleep", "60"]) if config.x == 2 else None
        os.mkfifo(folder / "waiting")
        (folder / "waiting").read_text()  # until somebody opens it for writing
    return config.x + 0.5

if __name__ == "__main__":
    try:
        main()
    finally:
        found = [(job.number, job.code, job.value, job.error) for job in _jobs.finished]
        print("finished", json.dumps(found), flush=True)
"""
App = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application with a configuration folder, a group and a folder of its user's."""
    for name, text in {
        "app.py": APP,
        "conf/app.yaml": "defaults: [group: a, _self_]\nx: 0\nend: value\ntext: plain\n",
        "conf/group/a.yaml": "name: a",
        "conf/group/b.yaml": "name: b",
        "own/group/c.yaml": "name: c",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Callable[..., subprocess.Popen[str]]:
    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "app.py", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def launch(start: Callable[..., subprocess.Popen[str]]) -> App:
    """Runs a sweep with the process launcher to its end."""

    def run(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, "hydra/launcher=process", "hydra.sweep.dir=out", **environment)
        output, faults = process.communicate(timeout=600)
        assert process.returncode == code, output + faults
        return subprocess.CompletedProcess([], code, output, faults)

    return run


def seen(folder: Path, number: int, name: str = "seen") -> dict[str, Any]:
    return json.loads((folder / str(number) / f"{name}.json").read_text())


def finished(output: str) -> list[list[Any]]:
    """Number, exit code, value and error of each job."""
    return json.loads(output.rpartition("finished ")[2])


@pytest.mark.slow
def test_jobs_see_what_they_see_in_one_process(launch: App, start: Callable[..., Any], folder: Path) -> None:
    typed = ["--config-dir=own", "-m", "x=1,2", "group=b,c", "+extra={a: [1,2]}"]
    typed += ["text='a, b = \\'c\\' ${x}'"]
    alone = start(*typed, "hydra.sweep.dir=basic")
    assert alone.wait(600) == 0, alone.communicate()[1]
    done = launch(*typed)
    for number in range(4):
        assert seen(folder / "out", number) == seen(folder / "basic", number)
    assert seen(folder / "out", 3)["config"]["text"] == "a, b = 'c' 2"
    assert [value for _, _, value, _ in finished(done.stdout)] == [1.5, 1.5, 2.5, 2.5]
    pids = {seen(folder / "out", number, "process")["pid"] for number in range(4)}
    assert len(pids) == 4
    assert "job 1 says" in done.stdout  # passed through
    assert "job 1 says" in (folder / "out" / "1" / "job-1.log").read_text()


@pytest.mark.slow
def test_a_killed_job_does_not_affect_other_jobs(launch: App, folder: Path) -> None:
    done = launch("-m", "x=1,2,3", "end=killed", code=1)
    assert [(code, value) for _, code, value, _ in finished(done.stdout)] == [(0, 1.5), (-9, None), (0, 3.5)]
    assert "job 1 was killed by SIGKILL (out of memory?)" in done.stderr
    assert "eating memory" in done.stderr  # the last lines
    assert str(folder / "out" / "1" / "job-1.log") in done.stderr


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("error", "ValueError: two is bad"),
        ("object", "a job in its own process returns plain values, not a object"),
        ("exit", "job 0 ended with exit code 3 and no result"),
    ],
)
def test_a_failed_job_reports_the_reason(launch: App, end: str, reason: str) -> None:
    assert reason in launch("-m", "x=2", f"end={end}", code=1).stderr


def test_a_module_is_started_as_a_module(folder: Path) -> None:
    command = [sys.executable, "-m", "app", "-m", "x=1", "hydra/launcher=process", "hydra.sweep.dir=out"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    assert seen(folder / "out", 0, "process")["typed"][1:3] == ["-m", "app"]


def test_the_trial_is_passed_through_the_environment(launch: App, folder: Path) -> None:
    secret = "postgresql://me:hush@host/db"
    study = ["+hydra.sweeper.study_name=s", f"+hydra.sweeper.storage={secret}"]
    launch("-m", "x=1,2", *study, "hydra.sweeper._target_=hydra_plugins.named.Named", PYTHONPATH=_sweeper(folder))
    trial = json.loads(seen(folder / "out", 1)["trial"])
    assert trial == {"study_name": "s", "storage": secret, "number": 1}
    assert "hush" not in " ".join(seen(folder / "out", 1, "process")["typed"])


def _sweeper(folder: Path) -> str:
    """A sweeper with a study; the `PYTHONPATH` that finds it."""
    (folder / "more" / "hydra_plugins").mkdir(parents=True)
    (folder / "more" / "hydra_plugins" / "named.py").write_text("""
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

class Named(BasicSweeper):
    def __init__(self, max_batch_size, params=None, study_name=None, storage=None):
        super().__init__(max_batch_size, params)
""")
    return os.pathsep.join([str(folder / "more"), os.environ.get("PYTHONPATH", "")])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_job_once_and_is_waited_for(
    start: Callable[..., subprocess.Popen[str]], folder: Path, number: signal.Signals
) -> None:
    """A SIGTERM that the application does not handle stops it immediately; its job stops too."""
    process = start("-m", "x=1,2", "end=wait", "hydra/launcher=process", "hydra.sweep.dir=out")
    job = _waiting(folder / "out" / "0")
    process.send_signal(number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    _until(lambda: not _alive(job))
    assert (folder / "out" / "0" / "heeded").read_text() == f"{number.name}\n"
    assert not (folder / "out" / "1").exists()
    if number == signal.SIGINT:
        assert output.endswith("finished []\n")


def test_a_job_does_not_outlive_its_launcher(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    process = start("-m", "x=2", "end=wait", "hydra/launcher=process", "hydra.sweep.dir=out")
    job = _waiting(folder / "out" / "0")
    process.kill()
    process.communicate(timeout=600)
    _until(lambda: not _alive(job))
    assert (folder / "out" / "0" / "heeded").read_text() == "SIGTERM\n"


def _waiting(folder: Path) -> int:
    """The process of the job that waits there, once it does."""
    _until((folder / "waiting").exists)
    return int(seen(folder.parent, 0, "process")["pid"])


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        threading.Event().wait(0.1)
    raise TimeoutError


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_job_gets_a_gpu_that_no_other_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-a/b,-1,7")
    assert visible_gpus() == ["4", "GPU-a/b"]
    third: list[str] = []

    def wait_for_one() -> None:
        with free_gpus(1) as gpus:
            third.append(gpus.environment["CUDA_VISIBLE_DEVICES"])

    with free_gpus(1) as first:
        with free_gpus(1) as second:
            waiting = threading.Thread(target=wait_for_one)
            waiting.start()
        waiting.join(timeout=300)
    names = [gpus.environment["CUDA_VISIBLE_DEVICES"] for gpus in (first, second)]
    assert sorted(names) == ["4", "GPU-a/b"]
    assert third == [names[1]]
    with free_gpus(2) as both:
        assert both.environment["CUDA_VISIBLE_DEVICES"] == "4,GPU-a/b"
    with pytest.raises(ValueError, match="gpus is 3, and there are 2"), free_gpus(3):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with free_gpus(1) as none:
        assert none.environment == {}


@pytest.mark.slow
def test_a_job_sees_its_gpu(launch: App, folder: Path) -> None:
    own = {"CUDA_VISIBLE_DEVICES": "5,6", "TMPDIR": str(folder)}  # locks of no other sweep on this machine
    launch("-m", "x=1,2", **own)
    assert seen(folder / "out", 0)["gpus"] == "5"
    launch("-m", "x=1", "hydra.launcher.gpus=null", **own)
    assert seen(folder / "out", 0)["gpus"] == "5,6"

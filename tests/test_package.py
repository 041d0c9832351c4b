"""The installed package: conf/ travels in the wheel, and starting up stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout and unpacked into an empty target."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "target"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return target


def run(target: Path, code: str, cwd: Path) -> str:
    environment = {"PYTHONPATH": str(target), "PATH": "", "HOME": str(cwd)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.package
def test_the_wheel_composes_its_configuration_from_any_directory(installed: Path, tmp_path: Path) -> None:
    code = """
import kamerton.config.compose as compose
print(compose.conf_dir())
print(compose.compose_values(["experiment=trec_full"])["name"])
"""
    conf, name = run(installed, code, tmp_path).split()
    assert Path(conf) == installed / "kamerton" / "conf"
    assert name == "trec_full"


@pytest.mark.package
def test_the_wheel_holds_every_configuration_file_and_the_type_marker(installed: Path) -> None:
    shipped = {path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    assert shipped
    assert all((installed / "kamerton" / path).is_file() for path in shipped)
    assert (installed / "kamerton" / "py.typed").is_file()
    assert (installed / "hydra_plugins" / "kamerton" / "optuna_sweeper.py").is_file()
    assert not (installed / "hydra_plugins" / "__init__.py").exists()  # a namespace that packages share
    assert (installed / "kamerton" / "decide" / "templates" / "run.html.j2").is_file()
    assert not (installed / "tests").exists()


def test_help_composition_and_mistakes_import_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from kamerton.cli import main
main(["--help"])
main(["train", "--cfg", "job"])
assert main(["train", "optimzer.lr=1"]) == 2
heavy = {"torch", "transformers", "pytorch_lightning", "peft", "torchmetrics", "pyarrow", "plotly", "wandb"}
loaded = (heavy | {"sklearn", "optuna"}) & sys.modules.keys()
assert not loaded, loaded
"""
    command = [sys.executable, "-c", code, str(ROOT / "src")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: kamerton" in done.stdout
    assert "optimizer:" in done.stdout


@pytest.mark.slow
def test_a_run_imports_only_what_it_needs(tmp_path: Path) -> None:
    """Optuna is for sweeps, peft and bitsandbytes are for adapters: they cost a second and 90 MB."""
    code = """
import sys
from kamerton.cli import main
assert main(["train", "model=tiny", "adapter=full", "trainer.max_steps=1", "paths.outputs=outputs", *sys.argv[1:]]) == 0
loaded = {"optuna", "sqlalchemy", "peft", "bitsandbytes"} & sys.modules.keys()
assert not loaded, loaded
"""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "What is {n}?", "completion": "{n % 2}"}}\n' for n in range(40)))
    quick = ["base=false", "baselines=false", "data=jsonl", f"data.path={rows}", "logger=csv"]
    command = [sys.executable, "-c", code, *quick]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

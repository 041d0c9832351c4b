"""Where a process stands, from the variables of its launcher."""

from __future__ import annotations

import pytest

from kamerton.run.ranks import RUN_DIR, Place, place

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "7", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Place(0, 1, 1, None)),
        (TORCHRUN, Place(5, 4, 2, "torchrun")),
        (SLURM, Place(7, 4, 2, "slurm")),
        ({**SLURM, **TORCHRUN}, Place(5, 4, 2, "torchrun")),  # torchrun inside a job
        ({**SLURM, "SLURM_JOB_NAME": "interactive"}, Place(0, 1, 1, None)),
        ({"LOCAL_RANK": "1", RUN_DIR: "outputs/x/y"}, Place(1, 1, 1, None)),  # started by Lightning
        ({"LOCAL_RANK": "1"}, Place(0, 1, 1, None)),  # left over from something else
    ],
)
def test_the_launchers_variables_say_the_place(variables: dict[str, str], expected: Place) -> None:
    assert place(variables) == expected

"""The rank of a process, from the variables of its launcher."""

from __future__ import annotations

import pytest

from kamerton.run.distributed import RUN_DIR, RankInfo, rank_info

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "7", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, RankInfo(0, 1, 1, None)),
        (TORCHRUN, RankInfo(5, 4, 2, "torchrun")),
        (SLURM, RankInfo(7, 4, 2, "slurm")),
        ({**SLURM, **TORCHRUN}, RankInfo(5, 4, 2, "torchrun")),  # torchrun inside a job
        ({**SLURM, "SLURM_JOB_NAME": "interactive"}, RankInfo(0, 1, 1, None)),
        ({"LOCAL_RANK": "1", RUN_DIR: "outputs/x/y"}, RankInfo(1, 1, 1, None)),  # started by Lightning
        ({"LOCAL_RANK": "1"}, RankInfo(0, 1, 1, None)),  # left over from something else
    ],
)
def test_the_launchers_variables_say_the_place(variables: dict[str, str], expected: RankInfo) -> None:
    assert rank_info(variables) == expected

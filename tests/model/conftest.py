"""Shared by the model tests: the tiny models of `families`; Triton kernels, if installed, run on the CPU."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton

"""What the scoring tests share: the endpoint that plays a hosted model, and the tiny models of `families`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "model")]

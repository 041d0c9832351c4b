"""What the invariance tests share: `trajectory`, which trains the tiny model and returns every step's numbers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

"""The picture of a report in docs/images: python scripts/report_image.py outputs/trec/ID docs/images/report.png

The report is written again from the run directory first, so that the picture shows it as it is made today.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kamerton.decide.report.run import write_report

SIZE = "960,1370"  # CSS pixels: the header, the metric table and the baselines


def main(run: str, image: str) -> int:
    """Write the first screen of the run's report to `image`."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("error: there is no Chromium here\n    fix: apt-get install chromium", file=sys.stderr)
        return 2
    page = write_report(Path(run)).absolute().as_uri()
    with tempfile.TemporaryDirectory() as profile:
        flags = [
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--window-size={SIZE}",
            f"--user-data-dir={profile}",
        ]
        command = [browser, *flags, f"--screenshot={Path(image).absolute()}", page]
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

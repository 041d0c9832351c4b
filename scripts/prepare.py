"""`kamerton prepare` from a checkout: python scripts/prepare.py [--show N] [key=value ...]"""

import sys

from kamerton.cli import main

sys.exit(main(["prepare", *sys.argv[1:]]))

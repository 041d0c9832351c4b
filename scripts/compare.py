"""`kamerton compare` from a checkout: python scripts/compare.py runs=[PATH,...] [key=value ...]"""

import sys

from kamerton.cli import main

sys.exit(main(["compare", *sys.argv[1:]]))

"""`kamerton train` from a checkout: python scripts/train.py [key=value ...]"""

import sys

from kamerton.cli import main

sys.exit(main(["train", *sys.argv[1:]]))

"""`python -m kamerton`: the command line, also for launchers such as `torchrun -m kamerton`."""

import sys

from kamerton.cli import main

if __name__ == "__main__":
    sys.exit(main())

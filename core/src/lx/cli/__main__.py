"""`python -m lx.cli` is `lx`, for where the script is not on the path."""

import sys

from lx.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m sor`` is ``sor``."""

import sys

from sor.cli import main

if __name__ == "__main__":
    sys.exit(main())

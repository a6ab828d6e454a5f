"""The public names of `sor` under their older address; run as a script it shows three venues being routed.

python smart_order_router.py
"""

from sor import *  # noqa: F403
from sor import __all__  # noqa: F401

if __name__ == "__main__":
    import sys

    from sor.cli import main

    sys.exit(main(command="demo"))

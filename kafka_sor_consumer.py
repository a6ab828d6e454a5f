"""Routes an order on every message of a Kafka topic: ``sor consume`` as a script.

    python kafka_sor_consumer.py --topic market_data --order-size 3000 --greedy-l2

It uses the compiled kernels where they are installed and their pure-Python twin elsewhere, and says which.
"""

import sys

from sor.cli import main

if __name__ == "__main__":
    sys.exit(main(command="consume"))

"""`sor` with shorter waits for who is dead or gone, so that a test of it need not wait as long as a stream should.

A script, as the commands run in processes of their own, and start workers in others.
"""

from __future__ import annotations

import sys

import msgspec

from sor.cli import main
from sor.kafka.security import Connection
from sor.kafka.timing import Timing
from sor.service.settings import KafkaSettings

TIMING = Timing(session=4.0, heartbeat=0.5, transaction=6.0, fenced=5.0, metadata=1.0, look=1.0)
_connection = KafkaSettings.connection.fget


def _quick(settings: KafkaSettings) -> Connection:
    return msgspec.structs.replace(_connection(settings), timing=TIMING)


KafkaSettings.connection = property(_quick)

if __name__ == "__main__":
    sys.exit(main())

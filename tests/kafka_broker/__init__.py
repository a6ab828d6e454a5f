"""Real Apache Kafka for tests, without containers: Java, and jars that Maven fetches once.

with Cluster(nodes=1) as kafka:
    topic = kafka.create_topic("quotes", partitions=3)
    ...                     # kafka.bootstrap is "127.0.0.1:PORT"
    kafka.nodes[0].kill()   # or stop(), pause() and resume()
    kafka.nodes[0].start()  # the same port and data

The fixtures in kafka_broker.fixtures skip, with the reason, where no broker can be had.
"""

from .cluster import Cluster, External, Listener, Node, Servers
from .jars import KRAFT_VERSION, ZOOKEEPER_VERSION, Unavailable, find_or_fetch_jars, unavailable
from .process import BrokerError

__all__ = [
    "KRAFT_VERSION",
    "ZOOKEEPER_VERSION",
    "BrokerError",
    "Cluster",
    "External",
    "Listener",
    "Node",
    "Servers",
    "Unavailable",
    "find_or_fetch_jars",
    "unavailable",
]

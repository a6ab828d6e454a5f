"""TLS and logins: settings that are refused at start, and the commands with brokers that demand them."""

from __future__ import annotations

import base64
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import DONE, NO_BROKER, PATIENCE, STREAM_FAILED, WRONG_CALL, Job, Jobs, Start
from kafka_broker import Cluster, Listener
from kafka_broker.certificates import Authority, Pair
from kafka_broker.fixtures import need_kafka
from kafka_broker.process import HOST, free_ports

from sor.errors import InputError
from sor.kafka.security import PROTOCOLS, Secret
from sor.service import settings as config
from sor.service.settings import OPTIONS

USER, PASSWORD = "alice", "correct-horse-battery"
WRONG = "staple-of-no-use"
LOCK = "opens-the-key"
ROWS = 20
LOGIN_CLASS = "org.apache.kafka.common.security.{}LoginModule required"


class Files(NamedTuple):
    """Certificates of a test's world."""

    folder: Path
    authority: Path
    stranger: Path  # an authority that has signed nothing
    broker: Pair
    expired: Pair
    client: Pair
    locked: Pair  # the key has the password LOCK
    unknown: Pair  # signed by the stranger


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
    return Files(
        folder,
        authority.file,
        stranger.file,
        authority.sign("broker", HOST),
        authority.sign("expired", HOST, days=-1),
        authority.sign("client"),
        authority.sign("locked", password=LOCK),
        stranger.sign("unknown"),
    )


# --- settings --------------------------------------------------------------------------------------------------------


def load(flags: dict[str, Any], **variables: str) -> config.Settings:
    return config.load("consume", {name: str(value) for name, value in flags.items()}, variables)


def refusal(flags: dict[str, Any], **variables: str) -> str:
    with pytest.raises(InputError) as caught:
        load(flags, **variables)
    return str(caught.value)


LOGIN = {"security_protocol": "sasl_ssl", "sasl_mechanism": "plain", "sasl_username": USER}


def written(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_nothing_is_set_by_default() -> None:
    connection = load({}).connection
    assert connection == config.Connection("localhost:9092", 30.0)
    assert (connection.protocol, connection.mechanism, connection.password, connection.ca_file) == (
        "plaintext", None, None, None
    )  # fmt: skip


def test_all_that_can_be_set_by_flags_and_by_variables(files: Files, tmp_path: Path) -> None:
    flags = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER,
        "sasl_password_file": written(tmp_path, PASSWORD + "\n", "password"), "ssl_ca_file": files.authority,
        "ssl_cert_file": files.locked.cert, "ssl_key_file": files.locked.key,
        "ssl_key_password_file": written(tmp_path, LOCK + "\r\n", "lock"),
    }  # fmt: skip
    connection = load(flags).connection
    assert (connection.protocol, connection.mechanism, connection.username) == ("sasl_ssl", "scram-sha-512", USER)
    assert connection.password is not None
    assert connection.password.reveal() == PASSWORD
    assert connection.key_password is not None
    assert connection.key_password.reveal() == LOCK
    assert connection.ca_file == str(files.authority)
    assert (connection.cert_file, connection.key_file) == (str(files.locked.cert), str(files.locked.key))
    variables = {option.variable: str(flags[option.field]) for option in OPTIONS if option.field in flags}
    assert len(variables) == len(flags)
    assert load({}, **variables).connection == connection
    del variables["SOR_SASL_PASSWORD_FILE"]
    assert load({}, **variables, SOR_SASL_PASSWORD=PASSWORD).connection == connection


def test_no_flag_takes_a_secret() -> None:
    flagless = [option.variable for option in OPTIONS if option.flag is None]
    assert flagless == ["SOR_SASL_PASSWORD"]
    assert [option.name for option in OPTIONS if "password" in option.name.lower() and option.flag is not None] == [
        "--sasl-password-file", "--ssl-key-password-file"
    ]  # fmt: skip


def test_a_secret_does_not_show_itself() -> None:
    settings = load(LOGIN, SOR_SASL_PASSWORD=PASSWORD)
    for value in (settings, settings.connection, settings.sasl_password):
        for text in (repr(value), str(value), f"{value}"):
            assert PASSWORD not in text
            assert "***" in text
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301  to a worker process
    assert Secret("a") == Secret("a") != Secret("b")


TLS_FLAGS = {"security_protocol": "ssl"}


@pytest.mark.parametrize(
    ("flags", "variables", "words"),
    [
        ({"security_protocol": "tls"}, {}, ["--security-protocol is 'tls'", ", ".join(PROTOCOLS)]),
        ({**LOGIN, "sasl_mechanism": "md5"}, {}, ["--sasl-mechanism is 'md5'", "scram-sha-512"]),
        ({"security_protocol": "sasl_ssl"}, {}, ["--security-protocol is sasl_ssl", "--sasl-mechanism (SOR_SASL_MECH"]),
        ({}, {"SOR_SECURITY_PROTOCOL": "sasl_ssl"}, ["SOR_SECURITY_PROTOCOL is sasl_ssl", "--sasl-mechanism"]),
        ({**TLS_FLAGS, "security_protocol": "sasl_ssl", "sasl_mechanism": "plain"}, {}, [
            "--sasl-username (SOR_SASL_USERNAME) is not set"
        ]),
        (LOGIN, {}, ["SOR_SASL_PASSWORD", "--sasl-password-file (SOR_SASL_PASSWORD_FILE)", "is set"]),
        ({**LOGIN, "sasl_password_file": "x"}, {"SOR_SASL_PASSWORD": PASSWORD}, [
            "SOR_SASL_PASSWORD and --sasl-password-file are both set"
        ]),
        ({"sasl_username": USER}, {}, ["--sasl-username is 'alice'", "--security-protocol", "is plaintext"]),
        ({"sasl_mechanism": "plain"}, {}, ["--sasl-mechanism is 'plain'", "is plaintext"]),
        (TLS_FLAGS, {"SOR_SASL_PASSWORD": PASSWORD}, ["SOR_SASL_PASSWORD is set", "is ssl"]),
        (TLS_FLAGS, {"SOR_SASL_PASSWORD_FILE": "x"}, ["SOR_SASL_PASSWORD_FILE is 'x'", "is ssl"]),
        ({"ssl_ca_file": "x"}, {}, ["--ssl-ca-file is 'x'", "is plaintext", "sasl_ssl"]),
        ({}, {"SOR_SSL_CERT_FILE": "x"}, ["SOR_SSL_CERT_FILE is 'x'", "is plaintext"]),
        ({**TLS_FLAGS, "ssl_cert_file": "x"}, {}, ["--ssl-cert-file is 'x'", "--ssl-key-file (SOR_SSL_KEY_FILE)"]),
        ({**TLS_FLAGS, "ssl_key_file": "x"}, {}, ["--ssl-key-file is 'x'", "--ssl-cert-file"]),
        ({**TLS_FLAGS, "ssl_key_password_file": "x"}, {}, ["--ssl-key-password-file is 'x'", "--ssl-key-file"]),
        ({**TLS_FLAGS, "ssl_ca_file": "/no/such"}, {}, ["--ssl-ca-file is '/no/such'", "No such file"]),
        ({**TLS_FLAGS, "ssl_ca_file": "/"}, {}, ["--ssl-ca-file is '/'", "Is a directory"]),
        (TLS_FLAGS, {"SOR_SSL_CA_FILE": __file__}, ["SOR_SSL_CA_FILE is", "no certificate in PEM form"]),
        ({**LOGIN, "sasl_password_file": "/no/such"}, {}, ["--sasl-password-file is '/no/such'", "No such file"]),
        ({**LOGIN, "sasl_password_file": "/dev/null"}, {}, ["--sasl-password-file is '/dev/null'", "one line"]),
        ({**LOGIN, "sasl_password_file": __file__}, {}, ["--sasl-password-file is", "one line"]),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(flags: dict[str, str], variables: dict[str, str], words: list[str]) -> None:
    said = refusal(flags, **variables)
    assert "\n" not in said
    assert PASSWORD not in said
    for word in words:
        assert word in said


def test_an_empty_password_is_none() -> None:
    assert "neither SOR_SASL_PASSWORD" in refusal(LOGIN, SOR_SASL_PASSWORD="")


@pytest.mark.parametrize(
    ("cert", "key", "lock", "words"),
    [
        ("client", "broker", None, "not the key of the certificate"),
        ("client", "client.crt", None, "no private key in PEM form"),
        ("client.key", "client", None, "no certificate in PEM form"),
        ("locked", "locked", None, "its password is needed"),
        ("locked", "locked", WRONG, "the password given does not open it"),
    ],
)
def test_files_that_do_not_go_together(
    files: Files, tmp_path: Path, cert: str, key: str, lock: str | None, words: str
) -> None:
    def path(name: str, end: str) -> Path:
        return files.folder / (name if "." in name else f"{name}.{end}")

    flags = {**TLS_FLAGS, "ssl_cert_file": path(cert, "crt"), "ssl_key_file": path(key, "key")}
    if lock is not None:
        flags["ssl_key_password_file"] = written(tmp_path, lock)
    said = refusal(flags)
    assert words in said
    assert said.startswith(("--ssl-key-file is '", "--ssl-cert-file is '"))
    assert WRONG not in said


def test_a_damaged_key(files: Files, tmp_path: Path) -> None:
    lines = files.client.key.read_text().splitlines()
    key = written(tmp_path, "\n".join([lines[0], "AAAA", lines[-1]]))
    said = refusal({**TLS_FLAGS, "ssl_cert_file": files.client.cert, "ssl_key_file": key})
    assert said.startswith(f"--ssl-key-file is {str(key)!r}: it, or the certificate in")


# --- brokers that demand it ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(files: Files) -> Iterator[Cluster]:
    """One broker with a port for every kind of demand."""
    need_kafka()
    pem = {"ssl.keystore.type": "PEM", "ssl.truststore.type": "PEM", "ssl.truststore.location": files.authority}
    tls = {**pem, "ssl.keystore.location": files.broker.both}
    login = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "plain.sasl.jaas.config": f'{LOGIN_CLASS.format("plain.Plain")} user_{USER}="{PASSWORD}";',
        **{f"scram-sha-{n}.sasl.jaas.config": LOGIN_CLASS.format("scram.Scram") + ";" for n in (256, 512)},
    }
    listeners = {
        "TLS": Listener("SSL", tls),
        "MUTUAL": Listener("SSL", {**tls, "ssl.client.auth": "required"}),
        "EXPIRED": Listener("SSL", {**pem, "ssl.keystore.location": files.expired.both}),
        "MISNAMED": Listener("SSL", tls, "localhost"),  # a name that its certificate does not have
        "LOGIN": Listener("SASL_PLAINTEXT", login),
        "SCRAM": Listener("SASL_PLAINTEXT", {**login, "sasl.enabled.mechanisms": "SCRAM-SHA-256"}),
        "BOTH": Listener("SASL_SSL", {**tls, **login}),
    }
    with Cluster(listeners=listeners, users={USER: PASSWORD}) as cluster:
        cluster.create_topic("quotes")
        yield cluster


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def login_flags(protocol: str, mechanism: str) -> list[str]:
    return ["--security-protocol", protocol, "--sasl-mechanism", mechanism, "--sasl-username", USER]


def tls_flags(files: Files, protocol: str = "ssl", client: Pair | None = None) -> list[str]:
    flags = ["--security-protocol", protocol, "--ssl-ca-file", str(files.authority)]
    return flags if client is None else [*flags, "--ssl-cert-file", str(client.cert), "--ssl-key-file", str(client.key)]


WAYS = {
    "tls": ("TLS", lambda files: tls_flags(files)),
    "mutual": ("MUTUAL", lambda files: tls_flags(files, client=files.client)),
    "plain": ("LOGIN", lambda files: login_flags("sasl_plaintext", "plain")),
    "scram-256": ("LOGIN", lambda files: login_flags("sasl_plaintext", "scram-sha-256")),
    "scram-512": ("LOGIN", lambda files: login_flags("sasl_plaintext", "scram-sha-512")),
    "tls-plain": ("BOTH", lambda files: login_flags("sasl_ssl", "plain") + tls_flags(files, "sasl_ssl")),
    "tls-scram-512": ("BOTH", lambda files: login_flags("sasl_ssl", "scram-sha-512") + tls_flags(files, "sasl_ssl")),
}


def there_and_back(way: str, secure: Cluster, files: Files, start: Start, level: str) -> Iterator[Job]:
    """A producer and then a consumer with results to a topic, each to be waited for before the next is asked for."""
    listener, flags = WAYS[way]
    password = {"SOR_SASL_PASSWORD": PASSWORD} if "--sasl-username" in flags(files) else {}
    name, results = (secure.create_topic(f"{stem}-{way}-{level}") for stem in ("quotes", "results"))
    common = ["--kafka-servers", secure.at(listener), "--topic", name, "--log-level", level, *flags(files)]
    sample = Path(__file__).parents[2] / "sample.csv"
    yield start("produce", sample, "--max-messages", ROWS, *common, **password)
    consume = ["consume", "--max-messages", ROWS, "--results-topic", results, "--output", "-", *common]
    yield start(*consume, **password)


@pytest.mark.kafka
@pytest.mark.parametrize("way", WAYS)
def test_there_and_back(way: str, secure: Cluster, files: Files, start: Start) -> None:
    sent, got = (job.finish(DONE) for job in there_and_back(way, secure, files, start, "info"))
    assert f"sent {ROWS} messages" in sent.err
    assert len(got.results) == ROWS
    for job in (sent, got):
        assert_no_secret(job)


@pytest.mark.kafka
@pytest.mark.parametrize("way", ["plain", "tls-scram-512"])
def test_no_secret_at_the_most_talkative_level(way: str, secure: Cluster, files: Files, start: Start) -> None:
    for job in there_and_back(way, secure, files, start, "debug"):
        # Not finish(): the client's own debug lines show the traceback of what it then gets over.
        assert job.process.wait(PATIENCE) == DONE, job.story("failed")
        assert " - DEBUG - " in job.err
        assert_no_secret(job)


def assert_no_secret(job: Job) -> None:
    both = job.err + job.out.decode()
    for secret in (PASSWORD, WRONG, LOCK):
        assert secret not in both
        assert base64.b64encode(f"\0{USER}\0{secret}".encode()).decode() not in both


@pytest.mark.kafka
def test_passwords_in_files(secure: Cluster, files: Files, start: Start, checkout: Path, tmp_path: Path) -> None:
    password, lock = written(tmp_path, PASSWORD + "\n", "password"), written(tmp_path, LOCK + "\n", "lock")
    flags = [*login_flags("sasl_ssl", "plain"), *tls_flags(files, "sasl_ssl"), "--sasl-password-file", password]
    send = ["produce", checkout / "sample.csv", "--max-messages", ROWS, "--topic", "quotes"]
    start(*send, "--kafka-servers", secure.at("BOTH"), *flags).finish(DONE)
    flags = [*tls_flags(files, client=files.locked), "--ssl-key-password-file", lock]
    start(*send, "--kafka-servers", secure.at("MUTUAL"), *flags).finish(DONE)


def refused(start: Start, status: int, servers: str, *flags: Any, command: str = "consume", **variables: str) -> str:
    """The one line that ends a command; it would wait for ten minutes where the cause were not certain."""
    more = [Path(__file__).parents[2] / "sample.csv"] if command == "produce" else []
    arguments = [command, *more, "--kafka-servers", servers, "--topic", "quotes", "--connect-timeout", 600]
    job = start(*arguments, "--log-level", "error", *flags, **variables).finish(status)
    assert_no_secret(job)
    lines = job.err.splitlines()
    assert [line for line in lines if "error" in line] == lines[-1:]
    assert len(lines) == 1, job.err
    return lines[0].removeprefix(f"sor {command}: error: ")


@pytest.mark.kafka
@pytest.mark.parametrize("command", ["produce", "consume"])
@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256", "scram-sha-512"])
@pytest.mark.parametrize(("listener", "protocol"), [("LOGIN", "sasl_plaintext"), ("BOTH", "sasl_ssl")])
def test_a_wrong_password(
    secure: Cluster, files: Files, start: Start, command: str, mechanism: str, listener: str, protocol: str
) -> None:
    flags = login_flags(protocol, mechanism) + (tls_flags(files, protocol) if protocol == "sasl_ssl" else [])
    at = secure.at(listener)
    said = refused(start, STREAM_FAILED, at, *flags, command=command, SOR_SASL_PASSWORD=WRONG)
    assert said.startswith(f"{at} refuses the login of 'alice' by {mechanism.upper()}: Authentication failed")


@pytest.mark.kafka
def test_an_unknown_user_and_an_unknown_mechanism(secure: Cluster, start: Start) -> None:
    at, flags = secure.at("SCRAM"), login_flags("sasl_plaintext", "scram-sha-256")
    said = refused(start, STREAM_FAILED, at, *flags, "--sasl-username", "bob", SOR_SASL_PASSWORD=PASSWORD)
    assert said.startswith(f"{at} refuses the login of 'bob' by SCRAM-SHA-256: Authentication failed")
    flags = login_flags("sasl_plaintext", "plain")
    said = refused(start, STREAM_FAILED, at, *flags, SOR_SASL_PASSWORD=PASSWORD)
    assert said == f"{at} does not know --sasl-mechanism PLAIN: it offers SCRAM-SHA-256"


@pytest.mark.kafka
def test_certificates_that_are_not_accepted(secure: Cluster, files: Files, start: Start) -> None:
    at = secure.at("TLS")
    said = refused(start, STREAM_FAILED, at, "--security-protocol", "ssl", "--ssl-ca-file", files.stranger)
    assert said.startswith(f"the certificate of {at} is not accepted: ")
    assert "unable to get local issuer certificate" in said
    assert said.endswith(f"; trusted are the authorities in {str(files.stranger)!r}")
    said = refused(start, STREAM_FAILED, at, "--security-protocol", "ssl")
    assert said.endswith("--ssl-ca-file is not set, so the system's authorities are trusted")
    at = secure.at("EXPIRED")
    said = refused(start, STREAM_FAILED, at, *tls_flags(files))
    assert said.startswith(f"the certificate of {at} is not accepted: certificate has expired")
    at = secure.at("TLS", "localhost")
    said = refused(start, STREAM_FAILED, at, *tls_flags(files), command="produce")
    assert said.startswith(f"the certificate of {at} is not accepted: Hostname mismatch")
    assert said.endswith("it must be reached by a name that the certificate has")
    said = refused(start, STREAM_FAILED, secure.at("MISNAMED"), *tls_flags(files))
    assert said.startswith(
        f"the certificate of {secure.at('MISNAMED', 'localhost')} is not accepted: Hostname mismatch"
    )


@pytest.mark.kafka
def test_a_client_certificate_that_is_missing_or_not_trusted(secure: Cluster, files: Files, start: Start) -> None:
    at = secure.at("MUTUAL")
    said = refused(start, STREAM_FAILED, at, *tls_flags(files))
    assert said.startswith(f"{at} ended the TLS handshake: ")
    assert said.endswith("set --ssl-cert-file and --ssl-key-file")
    said = refused(start, STREAM_FAILED, at, *tls_flags(files, client=files.unknown))
    assert said.startswith(f"{at} does not accept the certificate in {str(files.unknown.cert)!r}: ")


@pytest.mark.kafka
def test_the_wrong_protocol(secure: Cluster, files: Files, start: Start) -> None:
    """Each kind of client at each other kind of port."""
    ports = {"plaintext": secure.bootstrap, "ssl": secure.at("TLS"), "sasl_plaintext": secure.at("LOGIN"),
             "sasl_ssl": secure.at("BOTH")}  # fmt: skip
    for ours in ports:
        flags = ["--security-protocol", ours]
        flags += tls_flags(files, ours) if ours.endswith("ssl") else []
        flags += login_flags(ours, "plain") if ours.startswith("sasl") else []
        password = {"SOR_SASL_PASSWORD": PASSWORD} if ours.startswith("sasl") else {}
        for theirs, at in ports.items():
            if ours == theirs:
                continue
            said = refused(start, STREAM_FAILED, at, *flags, **password)
            assert f"--security-protocol is {ours}" in said
            if ours.endswith("ssl") != theirs.endswith("ssl"):
                what = "expects TLS" if theirs.endswith("ssl") else "does not speak TLS"
            else:
                what = "demands a login" if theirs.startswith("sasl") else "takes no login"
                assert said.endswith(f"it must be {theirs}")
            assert said.startswith(f"{at} {what}")


@pytest.mark.kafka
def test_the_next_broker_is_asked_where_one_does_not_answer(secure: Cluster, files: Files, start: Start) -> None:
    dead = f"{HOST}:{free_ports(1)[0]}"
    said = refused(start, STREAM_FAILED, f"{dead},{secure.at('EXPIRED')}", *tls_flags(files))
    assert "certificate has expired" in said


def test_nobody_answers(files: Files, start: Start) -> None:
    """A port that is closed, and one that takes connections and stays silent."""
    with socket.create_server((HOST, 0)) as silent:
        for port in (free_ports(1)[0], silent.getsockname()[1]):
            flags = [*tls_flags(files), "--log-level", "error", "--connect-timeout", 1]
            job = start("consume", "--kafka-servers", f"{HOST}:{port}", *flags).finish(NO_BROKER)
            assert f"no Kafka broker answered at {HOST}:{port} within 1 s" in job.err


def test_a_wrong_setting_ends_a_command_before_a_broker_is_asked(start: Start) -> None:
    job = start("consume", "--ssl-ca-file", "x", "--connect-timeout", 600).finish(WRONG_CALL)
    assert job.err.startswith("sor consume: error: --ssl-ca-file is 'x' but")
    assert job.err.count("\n") == 1

"""The first steps of a connection, taken once by hand, so that what a broker will never accept has a name.

A client library tries again and again, and in the end only knows that it got no answer. Here the first broker that
answers is greeted as the client will greet it: TLS, then Kafka's SASL handshake, then the login. What cannot work is
a `StreamError` at once; a broker that does not answer may yet come up, and has the whole connect time-out to do so.
(kafka-python 3.0.12 would wait for ever where a server takes connections but no TLS handshake.)
"""

from __future__ import annotations

import contextlib
import ssl
import struct
from socket import create_connection
from typing import Any

from sor.errors import StreamError
from sor.kafka.private import mechanism as sasl_mechanism
from sor.kafka.security import Connection, tls_context
from sor.kafka.waiting import Deadline

WAIT_S = 5.0  # for each step; a broker that is up answers in milliseconds
NAP_S = 0.2
METADATA, SASL_HANDSHAKE, SASL_AUTHENTICATE = 3, 17, 36  # Kafka's API keys, all sent in version 1
OK, UNSUPPORTED_MECHANISM, ILLEGAL_SASL_STATE = 0, 33, 34  # Kafka's error codes
LONGEST_ANSWER = 1 << 20
MOST_BROKERS = 10  # whose certificates are looked at before the start
TLS_ALERT = b"\x15\x03"  # how a TLS server answers what is no TLS

EXPIRED, NOT_YET_VALID, WRONG_NAME, WRONG_ADDRESS = 10, 9, 62, 64  # OpenSSL's verification codes
CLIENT_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")  # in alerts about a certificate of ours


class _Odd(Exception):
    """The other end closed the connection, or what it said is no answer of Kafka's."""


_greeted: set[Connection] = set()


def greet(connection: Connection) -> bool:
    """Greet the brokers in turn until one has answered; False where none does within the connect time-out.

    Once a process: what they have taken once they take again.

    Raises
    ------
    StreamError
        It answered, and these settings cannot work with it.
    """
    if connection in _greeted:
        return True
    deadline = Deadline(connection.timeout)
    while True:
        for server in connection.servers.split(","):
            with contextlib.suppress(OSError, _Odd):
                _greet(server, connection)
                _greeted.add(connection)
                return True
        if not deadline.pause(NAP_S):
            return False


def _greet(server: str, connection: Connection) -> None:
    with _open(server, connection.timeout) as plain:
        if connection.protocol.endswith("ssl"):
            _greet_by_tls(plain, server, connection)
            return
        try:
            _log_in(plain, server, connection)
        except _Odd:
            if _speaks_tls(server):
                raise StreamError(
                    f"{server} expects TLS but --security-protocol is {connection.protocol}: it must be ssl or sasl_ssl"
                ) from None
            raise


def _greet_by_tls(plain: Any, server: str, connection: Connection) -> None:
    with _encrypted(plain, server, connection) as stream:
        try:
            _log_in(stream, server, connection)
        except ssl.SSLError as error:  # with TLS 1.3 the broker says only now what it thinks of our certificate
            raise _refused_by_broker(error, server, connection) from None
        others = _advertised(stream)
    for other in others:  # the client will go to these names, and a certificate may fit one and not the other
        with contextlib.suppress(OSError, _Odd), _open(other, 1.0) as plain, _encrypted(plain, other, connection):
            pass


def _open(server: str, seconds: float) -> Any:
    host, _, port = server.rpartition(":")
    return create_connection((host.strip("[]"), int(port)), timeout=max(0.1, min(WAIT_S, seconds)))


# --- TLS -------------------------------------------------------------------------------------------------------------


def _encrypted(plain: Any, server: str, connection: Connection) -> ssl.SSLSocket:
    context = tls_context(connection.ca_file, connection.cert_file, connection.key_file, connection.key_password)
    host = server.rpartition(":")[0].strip("[]").rstrip(".")
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise StreamError(f"the certificate of {server} is not accepted: {_verdict(error, connection)}") from None
    except TimeoutError:
        raise
    except OSError as error:
        if _speaks_plaintext(server):
            raise StreamError(
                f"{server} does not speak TLS but --security-protocol is {connection.protocol}: "
                "it must be plaintext or sasl_plaintext"
            ) from None
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            raise _refused_by_broker(error, server, connection) from None
        raise


def _verdict(error: ssl.SSLCertVerificationError, connection: Connection) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        return f"{said}; renew it on the broker, or put this machine's clock right"
    if error.verify_code in (WRONG_NAME, WRONG_ADDRESS):
        return f"{said}; it must be reached by a name that the certificate has"
    if connection.ca_file is None:
        return f"{said}; --ssl-ca-file is not set, so the system's authorities are trusted"
    return f"{said}; trusted are the authorities in {connection.ca_file!r}"


def _refused_by_broker(error: ssl.SSLError, server: str, connection: Connection) -> StreamError:
    reason = error.reason or str(error)
    said = reason.lower().replace("_", " ")
    if not any(word in reason for word in CLIENT_CERTIFICATE):
        return StreamError(f"{server} ended the TLS handshake: {said}")
    if connection.cert_file is None:
        return StreamError(
            f"{server} ended the TLS handshake: {said}; if it demands a certificate of its clients, "
            "set --ssl-cert-file and --ssl-key-file"
        )
    return StreamError(f"{server} does not accept the certificate in {connection.cert_file!r}: {said}")


def _speaks_tls(server: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said over it
    try:
        with _open(server, WAIT_S) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _speaks_plaintext(server: str) -> bool:
    try:
        with _open(server, WAIT_S) as plain:
            _shake_hands(plain, "PLAIN")
            return True
    except (OSError, _Odd):
        return False


# --- Kafka -----------------------------------------------------------------------------------------------------------


def _log_in(stream: Any, server: str, connection: Connection) -> None:
    """Kafka's SASL handshake, which a broker without a login answers too, and the login."""
    wanted = connection.protocol.startswith("sasl_")
    mechanism = (connection.mechanism or "plain").upper()
    code, offered = _shake_hands(stream, mechanism)
    if wanted and code == ILLEGAL_SASL_STATE:
        raise StreamError(
            f"{server} takes no login (SASL) but --security-protocol is {connection.protocol}: "
            f"it must be {connection.protocol.removeprefix('sasl_')}"
        )
    if not wanted and code in (OK, UNSUPPORTED_MECHANISM):
        raise StreamError(
            f"{server} demands a login (SASL: {', '.join(offered)}) but --security-protocol is "
            f"{connection.protocol}: it must be sasl_{connection.protocol}"
        )
    if wanted and code == UNSUPPORTED_MECHANISM:
        raise StreamError(f"{server} does not know --sasl-mechanism {mechanism}: it offers {', '.join(offered)}")
    if wanted and code == OK:
        _authenticate(stream, server, mechanism, connection)


def _authenticate(stream: Any, server: str, mechanism: str, connection: Connection) -> None:
    login = sasl_mechanism(mechanism)(**login_keywords(connection))
    while not login.is_done():
        token = login.auth_bytes()
        answer = _ask(stream, SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
        code, message = answer.number(">h"), answer.text()
        said = f"{server} refuses the login of {connection.username!r} by {mechanism}"
        if code != OK:
            raise StreamError(f"{said}: {message or f'error {code}'}")
        try:
            login.receive(answer.bytes())
        except ValueError as error:  # the broker does not know the password either: it is not the one it says it is
            raise StreamError(f"{said}: {error}") from None


def login_keywords(connection: Connection) -> dict[str, Any]:
    """kafka-python's keywords for a login; none where there is none."""
    if connection.mechanism is None or connection.password is None:
        return {}
    return {
        "sasl_mechanism": connection.mechanism.upper(),
        "sasl_plain_username": connection.username,
        "sasl_plain_password": connection.password.reveal(),
    }


def _shake_hands(stream: Any, mechanism: str) -> tuple[int, list[str]]:
    """The broker's error code and the mechanisms that it offers."""
    answer = _ask(stream, SASL_HANDSHAKE, _short(mechanism))
    code = answer.number(">h")
    return code, [answer.text() or "" for _ in range(min(answer.number(">i"), 100))]


def _advertised(stream: Any) -> list[str]:
    """The addresses that the brokers give themselves."""
    answer = _ask(stream, METADATA, struct.pack(">i", 0))  # about no topic
    found = []
    for _ in range(min(answer.number(">i"), MOST_BROKERS)):
        answer.number(">i")  # id
        host, port = answer.text(), answer.number(">i")
        answer.text()  # rack
        found.append(f"{host}:{port}")
    return found


def _ask(stream: Any, key: int, body: bytes) -> _Answer:
    """Send a request in version 1, as correlation number 1 of a client without a name."""
    request = struct.pack(">hhih", key, 1, 1, -1) + body
    stream.sendall(struct.pack(">i", len(request)) + request)
    head = _read(stream, 4)
    (size,) = struct.unpack(">i", head)
    if head.startswith(TLS_ALERT) or not 4 <= size <= LONGEST_ANSWER:
        raise _Odd
    answer = _Answer(_read(stream, size))
    if answer.number(">i") != 1:
        raise _Odd
    return answer


def _read(stream: Any, size: int) -> bytes:
    found = b""
    while len(found) < size:
        try:
            chunk = stream.recv(size - len(found))
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise _Odd
        found += chunk
    return found


def _short(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


class _Answer:
    """Bytes of an answer, read from the front."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def _take(self, size: int) -> bytes:
        if size > len(self._raw):
            raise _Odd
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def text(self) -> str | None:
        size = self.number(">h")
        return None if size < 0 else self._take(size).decode(errors="replace")

    def bytes(self) -> bytes:
        return self._take(max(0, self.number(">i")))

"""Passwords and certificates: a type that never shows itself, and what is wrong with the settings and files, at start.

That they are right is known before a broker is asked; what a broker says to them is in `sor.kafka.handshake`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

from sor.errors import InputError
from sor.kafka.timing import Timing

PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS = ("plain", "scram-sha-256", "scram-sha-512")
SASL_FIELDS = ("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file")
SSL_FIELDS = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file", "ssl_key_password_file")
LONGEST_SECRET = 4096  # bytes: more is no password but another file


class Secret:
    """A text that shows itself only where it is asked for by ``reveal``; not in a repr, a log line or an error."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Connection(msgspec.Struct, frozen=True):
    """How to reach the brokers."""

    servers: str  # host:port, comma-separated
    timeout: float  # seconds to wait for a first answer
    protocol: str = "plaintext"
    mechanism: str | None = None  # of SASL; this and what follows: checked by `complete`
    username: str | None = None
    password: Secret | None = None
    ca_file: str | None = None  # None: the system's authorities
    cert_file: str | None = None
    key_file: str | None = None
    key_password: Secret | None = None
    timing: Timing = Timing()


# --- settings --------------------------------------------------------------------------------------------------------


def complete(values: dict[str, Any], given: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Check the settings of a connection against each other, and read the files that they name.

    Parameters
    ----------
    values : dict of field to value
        Gets ``sasl_password`` and ``ssl_key_password`` where they are in files.
    given : mapping of field to text
        Flag or variable by which a field was set.
    names : mapping of field to text
        What a field that was not set is called.

    Raises
    ------
    InputError
    """
    values["ssl_key_password"] = None
    protocol = values["security_protocol"]
    chosen = f"{given.get('security_protocol', names['security_protocol'])} is {protocol}"
    if protocol.startswith("sasl_"):
        _complete_login(values, given, names, chosen)
    else:
        _refuse(SASL_FIELDS, values, given, f"{chosen}: a login needs sasl_ssl or sasl_plaintext")
    if protocol.endswith("ssl"):
        _complete_tls(values, given, names)
    else:
        _refuse(SSL_FIELDS, values, given, f"{chosen}: encryption needs ssl or sasl_ssl")


def _refuse(fields: tuple[str, ...], values: Mapping[str, Any], given: Mapping[str, str], reason: str) -> None:
    for field in fields:
        if field in given:
            value = "set" if isinstance(values[field], Secret) else repr(values[field])
            raise InputError(f"{given[field]} is {value} but {reason}")


def _complete_login(values: dict[str, Any], given: Mapping[str, str], names: Mapping[str, str], chosen: str) -> None:
    for field in ("sasl_mechanism", "sasl_username"):
        if values[field] is None:
            raise InputError(f"{chosen} but {names[field]} is not set")
    if {"sasl_password", "sasl_password_file"} <= given.keys():
        raise InputError(f"{given['sasl_password']} and {given['sasl_password_file']} are both set: give one of them")
    if "sasl_password_file" in given:
        values["sasl_password"] = _secret_in(values["sasl_password_file"], given["sasl_password_file"])
    if values["sasl_password"] is None:
        raise InputError(f"{chosen} but neither {names['sasl_password']} nor {names['sasl_password_file']} is set")


def _complete_tls(values: dict[str, Any], given: Mapping[str, str], names: Mapping[str, str]) -> None:
    for field, other in (
        ("ssl_cert_file", "ssl_key_file"),
        ("ssl_key_file", "ssl_cert_file"),
        ("ssl_key_password_file", "ssl_key_file"),
    ):
        if field in given and other not in given:
            raise InputError(f"{given[field]} is {values[field]!r} but {names[other]} is not set")
    if "ssl_key_password_file" in given:
        values["ssl_key_password"] = _secret_in(values["ssl_key_password_file"], given["ssl_key_password_file"])
    if "ssl_ca_file" in given:
        _check_authorities(values["ssl_ca_file"], given["ssl_ca_file"])
    if "ssl_cert_file" in given:
        _check_certificate(values, given)


# --- files -----------------------------------------------------------------------------------------------------------


def _read(path: str, where: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{where} is {path!r}: cannot read it: {error.strerror}") from None


def _secret_in(path: str, where: str) -> Secret:
    """The password in a file, without the end of its line."""
    raw = _read(path, where)
    try:
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = "\n"
    if not text or len(raw) > LONGEST_SECRET or "\n" in text or "\0" in text:
        raise InputError(f"{where} is {path!r}: it must hold one line, the password")
    return Secret(text)


def _check_authorities(path: str, where: str) -> None:
    _read(path, where)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise InputError(f"{where} is {path!r}: it holds no certificate in PEM form") from None


def _check_certificate(values: Mapping[str, Any], given: Mapping[str, str]) -> None:
    cert, key = values["ssl_cert_file"], values["ssl_key_file"]
    if b"-----BEGIN CERTIFICATE-----" not in _read(cert, given["ssl_cert_file"]):
        raise InputError(f"{given['ssl_cert_file']} is {cert!r}: it holds no certificate in PEM form")
    if b" PRIVATE KEY-----" not in _read(key, given["ssl_key_file"]):
        raise InputError(f"{given['ssl_key_file']} is {key!r}: it holds no private key in PEM form")
    secret: Secret | None = values["ssl_key_password"]
    asked = False

    def password() -> str:  # a function, as without a password OpenSSL would ask for one on the terminal
        nonlocal asked
        asked = True
        return "" if secret is None else secret.reveal()

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise InputError(f"{given['ssl_key_file']} is {key!r}: {_key_trouble(error, asked, secret, cert)}") from None


def _key_trouble(error: Exception, asked: bool, secret: Secret | None, cert: str) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"it is not the key of the certificate in {cert!r}"
    if asked:
        return "its password is needed" if secret is None else "the password given does not open it"
    return f"it, or the certificate in {cert!r}, cannot be used: {getattr(error, 'reason', None) or error}"


def tls_context(
    ca_file: str | None, cert_file: str | None, key_file: str | None, key_password: Secret | None
) -> ssl.SSLContext:
    """A client's context: TLS 1.2 or later, certificate and host name checked, as kafka-python makes it too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file, None if key_password is None else key_password.reveal())
    return context

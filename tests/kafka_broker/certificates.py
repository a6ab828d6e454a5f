"""Certificates for brokers and clients of a test, good and bad, made on the spot and gone with the test's folder."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """Files in PEM form."""

    cert: Path
    key: Path
    both: Path  # key and certificate, as brokers read them


class Authority:
    """Signs certificates; `file` is its own, for those who are to trust it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.file = folder / f"{name}.pem"
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        built = (
            _builder(self._name, self._name, self._key, 1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        self.file.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *addresses: str, days: float = 1, password: str | None = None) -> Pair:
        """A certificate for IP addresses that lasts `days` from now, its key locked by a password or not."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(_named(name), self._name, key, days)
        built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            lock = serialization.BestAvailableEncryption(password.encode())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        pair = Pair(*(self.folder / f"{name}.{end}" for end in ("crt", "key", "both")))
        pair.cert.write_bytes(pem)
        pair.key.write_bytes(private)
        pair.both.write_bytes(private + pem)
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    end = datetime.datetime.now(datetime.timezone.utc) + days * DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 30 * DAY)
        .not_valid_after(end)
    )

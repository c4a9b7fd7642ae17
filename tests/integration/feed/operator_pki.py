"""Certificates as KubeArmor's operator makes them: CA, server and client bear one subject and the serial 1."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "kubearmor"),
        x509.NameAttribute(NameOID.COMMON_NAME, "kubearmor"),
    ]
)
ALTERNATIVE = x509.SubjectAlternativeName(
    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
)
LIFE = timedelta(days=365)


class OperatorCa:
    """A CA with a new key; each one that is made bears the same name."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._certificate = self._signed(self._key.public_key(), ends=datetime.now(UTC) + LIFE, ca=True, usage=None)
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def issue(self, folder: Path, name: str, *, ends: datetime | None = None, names: bool = True) -> tuple[Path, Path]:
        """Writes `name`.crt and `name`.key, for a server or a client; without alternative names if not `names`."""
        key = rsa.generate_private_key(65537, 2048)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if "client" in name else ExtendedKeyUsageOID.SERVER_AUTH
        leaf = self._signed(key.public_key(), ends=ends or datetime.now(UTC) + LIFE, ca=False, usage=usage, names=names)
        cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
        cert_file.write_bytes(leaf.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert_file, key_file

    def _signed(
        self,
        key: rsa.RSAPublicKey,
        *,
        ends: datetime,
        ca: bool,
        usage: x509.ObjectIdentifier | None,
        names: bool = True,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(NAME)
            .issuer_name(NAME)
            .serial_number(1)
            .public_key(key)
            .not_valid_before(ends - 2 * LIFE)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_encipherment=True, key_cert_sign=ca, crl_sign=ca,
                    content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )  # fmt: skip
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names and not ca:
            builder = builder.add_extension(ALTERNATIVE, critical=False)
        return builder.sign(self._key, hashes.SHA256())

# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's certificate authority and the nodes' certificates.

Pure: keys and certificates come in and go out as PEM text, the time is an argument. A node has two credentials: one for
libvirt, whose subject the other nodes list as allowed, and one for QEMU's migrations. So a process that escapes from a
guest and reads QEMU's key cannot use it to command the libvirt of another node.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .errors import TwofoldError

AUTHORITY_DAYS = 3650
NODE_DAYS = 397
RENEW_DAYS = 30
# A certificate is valid from a little before it is made, for nodes whose clock is behind.
BACKDATE = timedelta(days=1)
USAGES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


class PkiError(TwofoldError):
    """A key or certificate that cannot be used."""


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for."""

    name: str
    unit: str | None
    names: tuple[str, ...]
    addresses: tuple[str, ...]

    @property
    def distinguished_name(self) -> str:
        """The name as GnuTLS writes it, and so as libvirt's tls_allowed_dn_list wants it."""
        return self.as_name.rfc4514_string()

    @property
    def as_name(self) -> x509.Name:
        """The name as a certificate holds it."""
        unit = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, self.unit)] if self.unit else []
        return x509.Name([*unit, x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    @property
    def alternatives(self) -> set[x509.GeneralName]:
        """Every name and address under which the node is reached."""
        names: set[x509.GeneralName] = {x509.DNSName(name) for name in self.names}
        return names | {x509.IPAddress(ipaddress.ip_address(address)) for address in self.addresses}


@dataclass(frozen=True)
class Credential:
    """A certificate and its key, as PEM; the key never shows in a representation."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Credential(...)"


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()!r})"


def create_authority(cluster: str, now: datetime, days: int = AUTHORITY_DAYS) -> Credential:
    """Make a certificate authority for a cluster."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Twofold cluster {cluster}"[:64])])
    builder = _builder(name, name, key.public_key(), now, now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return Credential(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def load_certificate(pem: str) -> x509.Certificate:
    """Read a certificate."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise PkiError("this is not a certificate in PEM form") from error


def load_authority(credential: Credential) -> Authority:
    """Read an authority; its key must be unencrypted here and belong to the certificate."""
    certificate = load_certificate(credential.certificate)
    try:
        key = serialization.load_pem_private_key(credential.key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise PkiError("the authority's key is not an unencrypted private key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError("the authority's key is not an elliptic curve key")
    if certificate.public_key() != key.public_key():
        raise PkiError("the authority's key does not belong to its certificate")
    return Authority(certificate, key)


def issue(authority: Authority, subject: Subject, now: datetime, days: int = NODE_DAYS) -> Credential:
    """Make a key and sign a certificate for it; it never outlives the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    builder = _builder(subject.as_name, authority.certificate.subject, key.public_key(), now, until)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(USAGES), critical=False)
    builder = builder.add_extension(signer, critical=False)
    alternatives = sorted(subject.alternatives, key=repr)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Credential(_pem(builder.sign(authority.key, hashes.SHA256())), _key_pem(key))


def fault(pem: str, authority_pem: str, subject: Subject, now: datetime, renew_days: int = RENEW_DAYS) -> str | None:
    """Return why a node's certificate has to be replaced, or None if it is good."""
    try:
        certificate = load_certificate(pem)
    except PkiError as error:
        return str(error)
    try:
        certificate.verify_directly_issued_by(load_certificate(authority_pem))
    except (ValueError, TypeError, InvalidSignature):
        return "it was not signed by the cluster's authority"
    if certificate.subject != subject.as_name:
        return f"it is for {certificate.subject.rfc4514_string()}, not for {subject.distinguished_name}"
    if _alternatives(certificate) != subject.alternatives:
        return "the node's names or addresses have changed"
    if not set(USAGES) <= _usages(certificate):
        return "it is not for servers and clients"
    if now < certificate.not_valid_before_utc:
        return "it is not valid yet"
    if now + timedelta(days=renew_days) >= certificate.not_valid_after_utc:
        return f"it is valid until {certificate.not_valid_after_utc:%Y-%m-%d} only"
    return None


def days_left(pem: str, now: datetime) -> int:
    """Return for how many more days a certificate is valid."""
    return (load_certificate(pem).not_valid_after_utc - now).days


def now() -> datetime:
    """The time, for those who call this library."""
    return datetime.now(UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        # libvirt before 10 refuses certificates without it, whatever the kind of key.
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nodes' certificates: there, whole, signed by the authority that all trust, and valid for a while."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..findings import Finding, listing
from ..observed import NodeView
from .seen import Seen, error, warning

if TYPE_CHECKING:
    from cryptography import x509

# Ganeti's limits (lib/cmdlib/cluster/verify.py, constants SSL_CERT_EXPIRATION_WARN and SSL_CERT_EXPIRATION_ERROR).
WARN, FAIL = timedelta(days=30), timedelta(days=7)
AUTHORITIES = frozenset({"/etc/pki/CA/cacert.pem", "/etc/pki/qemu/ca-cert.pem"})
RENEW = "run bootstrap.yml, which renews it"
Parsed = list[tuple[list[str], "x509.Certificate"]]


def findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with certificates; nothing without the time."""
    if seen.now is None:
        return
    authorities: dict[bytes, list[str]] = {}
    for view in seen.answered:
        if view.document.get("certificates") is None:
            continue
        parsed: Parsed = []
        yield from _parse(view, view.document["certificates"], parsed)
        own = [certificate for paths, certificate in parsed if AUTHORITIES & set(paths)]
        for authority in own:
            authorities.setdefault(_digest(authority), []).append(view.name)
        for paths, certificate in parsed:
            yield from _valid(view, paths, certificate, seen.now)
            if not AUTHORITIES & set(paths) and own and not any(_signed(certificate, one) for one in own):
                message = f"{listing(paths)} was not signed by the authority that the node trusts"
                yield error("certificate-foreign", f"node {view.name}", message, RENEW)
    if len(authorities) > 1:
        trusting = "; ".join(", ".join(sorted(set(nodes))) for nodes in authorities.values())
        message = f"the nodes trust different authorities ({trusting}): migrations between them fail"
        remedy = "run bootstrap.yml from the control host that has the right authority in twofold_pki_dir"
        yield error("authority-differs", "cluster", message, remedy)


def _parse(view: NodeView, found: list[dict[str, Any]], into: Parsed) -> Iterator[Finding]:
    from .. import pki

    target = f"node {view.name}"
    for entry in found:
        if entry["pem"] is None:
            yield error("certificate-missing", target, f"{listing(entry['paths'])} is missing", "run bootstrap.yml")
            continue
        try:
            into.append((entry["paths"], pki.load_certificate(entry["pem"])))
        except pki.PkiError as problem:
            yield error("certificate-broken", target, f"{listing(entry['paths'])}: {problem}", "run bootstrap.yml")


def _valid(view: NodeView, paths: list[str], certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    target, until = f"node {view.name}", certificate.not_valid_after_utc
    if now < certificate.not_valid_before_utc:
        message = f"{listing(paths)} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        yield error("certificate-not-yet-valid", target, message, "set the clocks of node and control host by NTP")
    left = until - now
    if left > WARN:
        return
    ended = left <= timedelta(0)
    message = f"{listing(paths)} {'ended' if ended else 'ends'} on {until:%Y-%m-%d}"
    if not ended:
        message += f", in {left.days} days"
    yield (error if left <= FAIL else warning)("certificate-expires", target, message, RENEW)


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _digest(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256())

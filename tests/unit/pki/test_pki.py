# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority and the nodes' certificates, judged by a TLS library other than the one that made them."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from twofold import pki

NOW = datetime.now(UTC).replace(microsecond=0)
NODE = pki.Subject("node1", None, ("node1", "node1.example.com"), ("192.0.2.11", "198.51.100.11", "2001:db8::11"))


@pytest.fixture(scope="module")
def made() -> pki.Credential:
    return pki.create_authority("lab", NOW)


@pytest.fixture(scope="module")
def authority(made: pki.Credential) -> pki.Authority:
    return pki.load_authority(made)


def context(folder: Path, purpose: ssl.Purpose, authority: str, pair: pki.Credential) -> ssl.SSLContext:
    (folder / "pair.pem").write_text(pair.certificate + pair.key)
    made = ssl.create_default_context(purpose, cadata=authority)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(folder / "pair.pem")
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Connect the two; raise what the client met, or what the server did."""
    ends = socket.socketpair()
    errors: list[Exception] = []

    def serve() -> None:
        try:
            with server.wrap_socket(ends[0], server_side=True) as wrapped:
                wrapped.sendall(b"x")
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ends[1], server_hostname=name) as wrapped:
            wrapped.recv(1)
    finally:
        thread.join()
        ends[0].close()
    if errors:
        raise errors[0]


Connect = Callable[[pki.Credential, str], None]


@pytest.fixture
def connect(tmp_path: Path, made: pki.Credential, authority: pki.Authority) -> Connect:
    """Connect a client to node1 with a good certificate of its own."""

    def run(client: pki.Credential, name: str) -> None:
        server = context(tmp_path, ssl.Purpose.CLIENT_AUTH, made.certificate, pki.issue(authority, NODE, NOW))
        handshake(server, context(tmp_path, ssl.Purpose.SERVER_AUTH, made.certificate, client), name)

    return run


@pytest.mark.parametrize("name", [*NODE.names, *NODE.addresses])
def test_a_node_is_believed_under_each_name_and_address(connect: Connect, authority: pki.Authority, name: str) -> None:
    connect(pki.issue(authority, dataclasses.replace(NODE, name="node2"), NOW), name)


def test_a_node_is_not_believed_under_another_name(connect: Connect, authority: pki.Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'node2'"):
        connect(pki.issue(authority, NODE, NOW), "node2")


def test_a_client_of_another_authority_is_refused(connect: Connect) -> None:
    other = pki.load_authority(pki.create_authority("lab", NOW))
    with pytest.raises(ssl.SSLError):
        connect(pki.issue(other, NODE, NOW), "node1")


def test_a_nodes_certificate_cannot_sign(connect: Connect, authority: pki.Authority) -> None:
    node = pki.load_authority(pki.issue(authority, NODE, NOW))
    forged = pki.issue(node, dataclasses.replace(NODE, name="node2"), NOW)
    chain = pki.Credential(forged.certificate + pki.issue(authority, NODE, NOW).certificate, forged.key)
    with pytest.raises(ssl.SSLError):
        connect(chain, "node1")


def test_a_good_certificate_has_no_fault(made: pki.Credential, authority: pki.Authority) -> None:
    issued = pki.issue(authority, NODE, NOW)
    assert pki.fault(issued.certificate, made.certificate, NODE, NOW) is None
    assert pki.days_left(issued.certificate, NOW) == pki.NODE_DAYS


@pytest.mark.parametrize(
    ("days", "faulty"), [(pki.NODE_DAYS - pki.RENEW_DAYS - 1, False), (pki.NODE_DAYS - pki.RENEW_DAYS, True)]
)
def test_it_is_renewed_in_its_last_days(
    made: pki.Credential, authority: pki.Authority, days: int, faulty: bool
) -> None:
    issued = pki.issue(authority, NODE, NOW)
    found = pki.fault(issued.certificate, made.certificate, NODE, NOW + timedelta(days=days))
    assert (found is not None and "only" in found) == faulty


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "node9"}, "not for CN=node9"),
        ({"unit": "qemu"}, "not for CN=node1,OU=qemu"),
        ({"names": ("node1",)}, "names or addresses"),
        ({"addresses": ("192.0.2.11",)}, "names or addresses"),
    ],
)
def test_it_is_replaced_when_the_node_changes(
    made: pki.Credential, authority: pki.Authority, change: dict[str, Any], reason: str
) -> None:
    issued = pki.issue(authority, NODE, NOW)
    wanted = dataclasses.replace(NODE, **change)
    assert reason in str(pki.fault(issued.certificate, made.certificate, wanted, NOW))


def test_other_authorities_and_rubbish_are_faults(made: pki.Credential) -> None:
    other = pki.load_authority(pki.create_authority("lab", NOW))
    foreign = pki.issue(other, NODE, NOW).certificate
    assert pki.fault(foreign, made.certificate, NODE, NOW) == "it was not signed by the cluster's authority"
    assert pki.fault("rubbish", made.certificate, NODE, NOW) == "this is not a certificate in PEM form"
    early = NOW - timedelta(days=2)
    assert pki.fault(foreign, made.certificate, NODE, early) is not None


def test_a_certificate_does_not_outlive_its_authority() -> None:
    short = pki.create_authority("lab", NOW, days=100)
    issued = pki.issue(pki.load_authority(short), NODE, NOW)
    assert pki.days_left(issued.certificate, NOW) == 100


def test_keys_do_not_show(authority: pki.Authority) -> None:
    issued = pki.issue(authority, NODE, NOW)
    assert "PRIVATE" in issued.key
    assert "PRIVATE" not in repr(issued) + str(issued) + repr(authority)


def test_an_authority_needs_its_own_key(made: pki.Credential) -> None:
    other = pki.create_authority("lab", NOW)
    with pytest.raises(pki.PkiError, match="does not belong"):
        pki.load_authority(pki.Credential(made.certificate, other.key))
    with pytest.raises(pki.PkiError, match="unencrypted"):
        pki.load_authority(pki.Credential(made.certificate, "$ANSIBLE_VAULT;1.1;AES256\n61\n"))

# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages that keep a secret off the command line."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _drbd_netlink as netlink
from ansible_collections.twofold.cluster.plugins.module_utils._errors import TimedOut, TwofoldError, UsageError

CONNECT = [
    "drbdsetup-84", "connect", "web1", "ipv4:198.51.100.11:7000", "ipv4:198.51.100.12:7000",
    "--protocol=C", "--cram-hmac-alg=sha256", "--shared-secret=s3", "--ping-int=3", "--sndbuf-size=1M",
    "--allow-two-primaries=no", "--after-sb-0pri=discard-zero-changes",
]  # fmt: skip


def test_connecting_carries_every_option() -> None:
    command, payload, flags = netlink.encode(CONNECT)
    top = netlink.attributes(payload)
    context, conf = netlink.attributes(top[netlink.CONTEXT]), netlink.attributes(top[netlink.NET_CONF])
    assert (command, flags) == (netlink.CONNECT, 0)
    assert context[netlink.NAME] == b"web1\0"
    assert context[netlink.PEER_ADDRESS][2:8] == struct.pack("!H", 7000) + bytes([198, 51, 100, 12])
    assert conf[1] == b"s3\0"
    assert conf[6] == struct.pack("=I", 3)
    assert conf[9] == struct.pack("=I", 3)
    assert conf[11] == struct.pack("=I", 1 << 20)
    assert conf[24] == b"\0"
    assert conf[17] == struct.pack("=I", 3)


def test_changing_options_begins_with_the_defaults() -> None:
    words = ["drbdsetup-84", "net-options", *CONNECT[3:5], "--set-defaults", "--shared-secret=new"]
    command, payload, flags = netlink.encode(words)
    assert (command, flags) == (netlink.CHANGE_NET_OPTIONS, netlink.SET_DEFAULTS)
    assert netlink.NAME not in netlink.attributes(netlink.attributes(payload)[netlink.CONTEXT])


def test_what_is_not_known_is_refused_without_the_secret() -> None:
    with pytest.raises(UsageError) as error:
        netlink.encode([*CONNECT, "--new-fangled=1"])
    assert "new-fangled" in str(error.value)
    assert "s3" not in str(error.value)


def test_only_commands_with_a_secret_are_kept_from_processes() -> None:
    assert netlink.carries_secret(CONNECT)
    assert not netlink.carries_secret(["drbdsetup-84", "new-minor", "web1", "1000", "0"])


def test_addresses() -> None:
    six = netlink.address("ipv6:[2001:db8::1]:7000")
    assert len(six) == 28
    assert six[8:24] == bytes.fromhex("20010db8000000000000000000000001")
    with pytest.raises(UsageError):
        netlink.address("sdp:198.51.100.11:7000")


OPTIONS = ["drbdsetup-84", "net-options", *CONNECT[3:5], "--set-defaults", "--shared-secret=s3"]


class Channel:
    """A socket to a kernel that takes what it is told, or not, and then says nothing."""

    def __init__(self, fails: dict[str, OSError]) -> None:
        self.fails = fails

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def settimeout(self, seconds: float) -> None:
        assert seconds == 60

    def bind(self, _address: Any) -> None:
        self._fail("bind")

    def send(self, _data: bytes) -> None:
        self._fail("send")

    def recv(self, _size: int) -> bytes:
        self._fail("recv")
        raise AssertionError

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]


@pytest.mark.parametrize("words", [CONNECT, OPTIONS])
@pytest.mark.parametrize(
    ("fails", "kind", "said"),
    [
        ({"recv": TimeoutError("timed out")}, TimedOut, "DRBD does not answer: {} web1 was not done within 60 s"),
        ({"send": TimeoutError("timed out")}, TimedOut, "DRBD does not answer: {} web1 was not done within 60 s"),
        ({"bind": OSError(errno.EPERM, "Operation not permitted")}, TwofoldError,
         "DRBD cannot be told to {} web1: Operation not permitted"),
        ({"send": OSError(errno.ENOBUFS, "No buffer space available")}, TwofoldError,
         "DRBD cannot be told to {} web1: No buffer space available"),
    ],
)  # fmt: skip
def test_a_kernel_that_says_nothing_is_named_with_what_it_was_told(
    monkeypatch: pytest.MonkeyPatch, words: list[str], fails: dict[str, OSError], kind: type, said: str
) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_args: Channel(fails))
    with pytest.raises(TwofoldError) as caught:
        netlink.run("web1", words)
    assert caught.type is kind and caught.value.message == said.format(words[1])
    assert "s3" not in str(caught.value)
    remedy = caught.value.remedy or ""
    assert "kernel's log" in remedy or "'drbdadm status' and dmesg" in remedy

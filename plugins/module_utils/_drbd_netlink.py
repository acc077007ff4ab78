# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Giving DRBD 8.4 a connection with a secret without a command line.

`drbdsetup connect` and `drbdsetup net-options` take the shared secret as an argument, where every user of the machine
can read it in the list of processes. So these two are said to the kernel directly, in its own generic netlink messages
(the numbers are those of the kernel's include/linux/drbd_genl.h); everything else is left to drbdsetup.
"""

from __future__ import annotations

import socket
import struct

from ._errors import DRBD, TimedOut, TwofoldError, UsageError, look_at

# Seconds for an answer.
PATIENCE = 60.0
NETLINK_GENERIC = 16
CONTROL, GET_FAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2
REQUEST, ERROR = 1, 2
CONNECT, CHANGE_NET_OPTIONS = 10, 29
CONTEXT, NET_CONF, REPLY = 2, 5, 1
NESTED = 0x8000
NAME, MY_ADDRESS, PEER_ADDRESS = 2, 3, 4
SET_DEFAULTS = 1
NO_MINOR = 0xFFFFFFFF
# NO_ERROR, and the kernel's SS_SUCCESS, SS_NOTHING_TO_DO and their like for what changes a state.
FINE = (101, 1, 2, 3)
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SPLIT_BRAIN = (
    "disconnect", "discard-younger-primary", "discard-older-primary", "discard-zero-changes", "discard-least-changes",
    "discard-local", "discard-remote", "consensus", "discard-secondary", "call-pri-lost-after-sb", "violently-as0p",
)  # fmt: skip
TEXTS = {"shared-secret": 1, "cram-hmac-alg": 2, "data-integrity-alg": 3, "verify-alg": 4, "csums-alg": 5}
NUMBERS = {
    "connect-int": 7, "timeout": 8, "ping-int": 9, "ping-timeout": 10, "sndbuf-size": 11, "rcvbuf-size": 12,
    "ko-count": 13, "max-buffers": 14, "max-epoch-size": 15, "unplug-watermark": 16, "congestion-extents": 23,
    "socket-check-timeout": 34,
}  # fmt: skip
FLAGS = {
    "allow-two-primaries": 24, "discard-my-data": 25, "tcp-cork": 26, "always-asbp": 27, "tentative": 28,
    "use-rle": 29, "csums-after-crash-only": 33,
}  # fmt: skip
CHOICES = {
    "protocol": (6, (None, "A", "B", "C")),
    "after-sb-0pri": (17, SPLIT_BRAIN),
    "after-sb-1pri": (18, SPLIT_BRAIN),
    "after-sb-2pri": (19, SPLIT_BRAIN),
    "rr-conflict": (20, ("disconnect", *[None] * 8, "call-pri-lost", "violently")),
    "on-congestion": (21, ("block", "pull-ahead", "disconnect")),
}


def carries_secret(words: list[str]) -> bool:
    """Whether this command of drbdadm's dry run must not become a process."""
    return any(word.startswith("--shared-secret") for word in words)


def run(name: str, words: list[str]) -> None:
    """Says to the kernel what one `drbdsetup connect` or `drbdsetup net-options` would, for a resource."""
    command, payload, flags = encode(words)
    try:
        answer = _say(command, struct.pack("=II", NO_MINOR, flags) + payload)
    except OSError as error:
        raise _unheard(f"{words[1]} {name}", error) from error
    code = struct.unpack_from("=i", answer, 4)[0]
    if code not in FINE:
        text = attributes(attributes(answer[8:]).get(REPLY, b"")).get(1, b"").rstrip(b"\0\n").decode(errors="replace")
        message = f"the kernel refused to {words[1]} {name}: error {code} {text}".rstrip()
        raise TwofoldError(message, "look at the kernel's log of this node")


def _say(command: int, message: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as channel:
        channel.settimeout(PATIENCE)
        channel.bind((0, 0))
        return _ask(channel, _family(channel), command, message)


def _unheard(what: str, error: OSError) -> TwofoldError:
    """DRBD itself hangs, or the kernel does not take what is said to it; no file system has anything to do with it."""
    # One is the other from Python 3.10 on.
    if isinstance(error, (socket.timeout, TimeoutError)):
        remedy = (
            "see the kernel's log there: mostly it waits for a disk; if it does so for good, move its guests away and "
            "reboot it"
        )
        return TimedOut(f"DRBD does not answer: {what} was not done within {PATIENCE:.0f} s", remedy)
    return TwofoldError(f"DRBD cannot be told to {what}: {error.strerror or error}", look_at(DRBD))


def encode(words: list[str]) -> tuple[int, bytes, int]:
    """The command, its attributes and its flags for the words of a command line."""
    action, places = words[1], [word for word in words[2:] if not word.startswith("--")]
    options = dict(word[2:].partition("=")[::2] for word in words[2:] if word.startswith("--"))
    flags = SET_DEFAULTS if options.pop("set-defaults", None) is not None else 0
    if action == "connect" and len(places) == 3:
        command, context = CONNECT, attribute(NAME, places[0].encode() + b"\0")
    elif action == "net-options" and len(places) == 2:
        command, context = CHANGE_NET_OPTIONS, b""
    else:
        raise UsageError(f"drbdadm wants to run 'drbdsetup {action}' in a way that is not known", "report this")
    context += attribute(MY_ADDRESS, address(places[-2])) + attribute(PEER_ADDRESS, address(places[-1]))
    conf = b"".join(_option(name, value) for name, value in options.items())
    return command, attribute(NESTED | CONTEXT, context) + attribute(NESTED | NET_CONF, conf), flags


def _option(name: str, value: str) -> bytes:
    if name in TEXTS:
        return attribute(TEXTS[name], value.encode() + b"\0")
    if name in FLAGS:
        return attribute(FLAGS[name], struct.pack("=B", value in ("", "yes")))
    if name in CHOICES:
        number, words = CHOICES[name]
        if value in words:
            return attribute(number, struct.pack("=I", words.index(value)))
    if name in NUMBERS:
        digits, unit = (value[:-1], value[-1].lower()) if value[-1:].isalpha() else (value, "")
        if digits.isdigit() and unit in UNITS:
            return attribute(NUMBERS[name], struct.pack("=I", int(digits) * UNITS[unit]))
    raise UsageError(f"the DRBD option {name} = {value!r} cannot be used with a secret", "leave it out")


def address(text: str) -> bytes:
    """A socket address as the kernel has it, of ipv4:198.51.100.11:7000 or ipv6:[2001:db8::1]:7000."""
    family, _ignored, rest = text.partition(":")
    host, _ignored, port = rest.rpartition(":")
    if family == "ipv4":
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", int(port)) + socket.inet_aton(host) + bytes(8)
    if family == "ipv6":
        packed = socket.inet_pton(socket.AF_INET6, host.strip("[]"))
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", int(port), 0) + packed + bytes(4)
    raise UsageError(f"DRBD addresses of kind {family!r} cannot be used with a secret", "use IPv4 or IPv6")


def attribute(number: int, value: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(value) + 4, number) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in some bytes."""
    found, offset = {}, 0
    while offset + 4 <= len(data):
        length, number = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[number & 0x3FFF] = data[offset + 4 : offset + length]
        offset += length + (-length % 4)
    return found


def _family(channel: socket.socket) -> int:
    answer = _ask(channel, CONTROL, GET_FAMILY, attribute(FAMILY_NAME, b"drbd\0"))
    return int(struct.unpack("=H", attributes(answer)[FAMILY_ID])[0])


def _ask(channel: socket.socket, family: int, command: int, payload: bytes) -> bytes:
    """Sends one request and returns the answer without its headers."""
    body = struct.pack("=BBH", command, 1, 0) + payload
    channel.send(struct.pack("=IHHII", len(body) + 16, family, REQUEST, 1, 0) + body)
    data = channel.recv(65536)
    kind = struct.unpack_from("=H", data, 4)[0]
    if kind == ERROR:
        number = -struct.unpack_from("=i", data, 16)[0]
        raise TwofoldError(f"the kernel does not take DRBD's messages: error {number}", "load the drbd module")
    return data[20 : struct.unpack_from("=I", data, 0)[0]]

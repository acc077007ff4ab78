# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt says of a domain that something works on, and what is done when it says nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest
from ansible_collections.twofold.cluster.plugins.module_utils import _libvirt
from ansible_collections.twofold.cluster.plugins.module_utils._clock import SystemClock
from ansible_collections.twofold.cluster.plugins.module_utils._errors import NoAnswer
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import Libvirt, has_job
from ansible_collections.twofold.cluster.plugins.module_utils._limit import ANSWER, within

ROOT = Path(__file__).resolve().parents[4]


class Answers:
    """A domain whose libvirt answers a question for its job with an error."""

    def __init__(self, code: int) -> None:
        self.error = libvirt.libvirtError("")
        self.error.err = (code, 0, "an answer of libvirt's", 2)

    def state(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED]

    def jobInfo(self) -> list[int]:
        raise self.error


def test_a_migration_that_comes_in_is_a_job_though_only_its_source_can_count_it() -> None:
    assert has_job(Answers(libvirt.VIR_ERR_OPERATION_UNSUPPORTED))


@pytest.mark.parametrize(
    ("state", "reason", "word"),
    [
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, "postcopy-failed"),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, "paused"),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, "paused"),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED, "postcopy-failed"),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY, "running"),
    ],
)
def test_a_post_copy_migration_that_failed_is_none_that_goes_on(state: int, reason: int, word: str) -> None:
    """libvirt keeps its job for one who resumes it."""
    connection = libvirt.open("test:///default")
    domain = connection.lookupByName("test")
    methods = ("name", "UUIDString", "info", "isPersistent", "XMLDesc", "autostart")
    facts = {name: getattr(domain, name) for name in methods}
    seen = SimpleNamespace(**facts, state=lambda: [state, reason], jobInfo=lambda: [libvirt.VIR_DOMAIN_JOB_UNBOUNDED])
    found = _libvirt.describe(seen)
    assert (found.state, found.migrating, found.stranded) == (word, word != "postcopy-failed", False)


def test_a_question_whose_error_was_lost_is_asked_once_more() -> None:
    """A domain that Python finalises between libvirt's call and the making of its exception resets what went wrong."""
    connection = libvirt.open("test:///default")
    asked: list[str] = []

    def by_name(name: str) -> libvirt.virDomain:
        asked.append(name)
        if len(asked) == 1:
            libvirt.virResetLastError()
            raise libvirt.libvirtError("virDomainLookupByName() failed")
        return connection.lookupByName(name)

    assert _libvirt.lookup(SimpleNamespace(lookupByName=by_name), "nobody") is None
    assert asked == ["nobody", "nobody"]


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT])
def test_a_domain_that_is_off_and_a_driver_without_jobs_have_none(code: int) -> None:
    assert not has_job(Answers(code))


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a libvirtd that is stopped: the kernel takes connections for it, and nothing is ever said."""
    monkeypatch.setattr(_libvirt, "ANSWER", 0.3)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "libvirt-sock"))
        listener.listen()
        yield f"qemu+unix:///system?socket={tmp_path}/libvirt-sock"


def test_a_libvirtd_that_says_nothing_is_given_up_and_not_asked_again(silent: str) -> None:
    hypervisor = Libvirt(SystemClock(), silent)
    with pytest.raises(NoAnswer) as caught:
        hypervisor.versions()
    assert silent in caught.value.message and "libvirtd" in str(caught.value.remedy)
    begun = time.monotonic()
    for ask in (hypervisor.domains, partial(hypervisor.start, "web1"), partial(hypervisor.domain, "web1")):
        with pytest.raises(NoAnswer):
            ask()
    assert time.monotonic() - begun < 0.2


def test_another_hosts_libvirtd_that_says_nothing_is_given_up(silent: str) -> None:
    hypervisor = Libvirt(SystemClock(), "test:///default")
    for ask in (partial(hypervisor.domains_at, silent), partial(hypervisor.elsewhere, silent, "web1")):
        with pytest.raises(NoAnswer):
            ask()
    assert hypervisor.domain("test") is not None, "this one answers"


def test_a_call_that_hangs_in_libvirt_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the connection lives: a thread of libvirtd's may wait for a guest whose disk hangs."""
    hangs, hypervisor = threading.Event(), Libvirt(SystemClock(), "test:///default")
    monkeypatch.setattr(hypervisor, "_describe", lambda _domain: hangs.wait())
    monkeypatch.setattr(_libvirt, "within", lambda _seconds, function, late: within(0.3, function, late))
    with pytest.raises(NoAnswer):
        hypervisor.domains()
    assert hypervisor.versions()["libvirt"], "what does not need the guest is still told"
    hangs.set()


def test_a_connection_notices_when_its_libvirtd_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration may take hours, so only this ends it."""
    asked: list[tuple[int, int]] = []
    connection = SimpleNamespace(setKeepAlive=lambda *pings: asked.append(pings))
    monkeypatch.setattr(libvirt, "open", lambda _uri: connection)
    assert _libvirt.connect("qemu:///system") is connection
    ((interval, count),) = asked
    assert interval * (count + 1) == ANSWER


HANGS = """\
import sys
from ansible_collections.twofold.cluster.plugins.module_utils import _entry, _libvirt
_libvirt.ANSWER = 0.3
found = _entry.main("observe", {"node": "node1", "uri": sys.argv[1]})
print(found["domains"], found["bridges"] is None, found["problems"])
"""


def test_a_node_whose_libvirtd_hangs_tells_the_rest_and_its_process_ends(silent: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    argv = [sys.executable, "-c", HANGS, silent]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("None False "), done.stdout + done.stderr
    assert "'object': 'domains', 'message': 'libvirt at qemu+unix" in done.stdout

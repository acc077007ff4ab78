# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as Ansible runs them: bundled, started, answering."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
HOST = "<node><cpu><mhz>1000</mhz><model>i686</model><active>2</active></cpu><memory>8388608</memory></node>"
XML = """<domain type="test"><name>web1</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
<os><type arch="x86_64">hvm</type></os></domain>"""
RESOURCE: dict[str, Any] = {
    "name": "unit-test-pair",
    "port": 7799,
    "secret": "s3cret-of-the-test",
    "hosts": [{"name": os.uname().nodename, "address": "198.51.100.11"}, {"name": "b", "address": "198.51.100.12"}],
    "volumes": [{"minor": 799, "disk": "/dev/vg0/x", "meta_disk": "/dev/vg0/x-meta"}],
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the modules are for root")


CASES: dict[str, dict[str, Any]] = {
    "defined and started": {"instance": {"name": "web1", "xml": XML, "local_uri": "HOST"}},
    "without xml": {"instance": {"name": "web1", "local_uri": "HOST"}},
    "no libvirt": {"instance": {"name": "web1", "local_uri": "test:///nowhere.xml"}},
    "migrated": {"instance_migrate": {"name": "web1", "uri": "test:///default", "local_uri": "HOST"}},
    "paired": {"drbd_resource": RESOURCE, "check": True},
    "paired wrongly": {"drbd_resource": {**RESOURCE, "net_options": {"ping-int": "often"}}, "check": True},
    "paired without a device": {"drbd_resource": {**RESOURCE, "name": "unit-test-typo"}},
    "no group": {"volume": {"name": "x", "volume_group": "no-such-group", "size": "1GiB"}},
    "no image": {"os_image": {"sha256": "0" * 64, "state": "absent"}},
    "no sum": {"os_image": {"sha256": "../../etc/passwd"}},
    "no device": {"os_install": {"device": "/etc/hostname", "image": "/dev/null", "format": "raw"}},
}
Ran = tuple[dict[str, dict[str, Any]], str]


def play(folder: Path, check: bool) -> Ran:
    """Every case in one run: the answers, and everything that was printed."""
    (folder / "host.xml").write_text(HOST)
    tasks: list[dict[str, Any]] = []
    for number, (name, case) in enumerate(CASES.items()):
        (module, arguments), *_rest = case.items()
        given = json.loads(json.dumps(arguments).replace('"HOST"', json.dumps(f"test://{folder / 'host.xml'}")))
        tasks.append(
            {"name": name, f"twofold.cluster.{module}": given, "register": f"case{number}", "ignore_errors": True}
        )
        if case.get("check"):
            tasks[-1]["check_mode"] = True
    found = "{{ [" + ", ".join(f"case{number}" for number in range(len(CASES))) + "] | to_json }}"
    write = {"ansible.builtin.copy": {"content": found, "dest": str(folder / "answers")}, "check_mode": False}
    (folder / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [*tasks, write]}])
    )
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    argv = [playbook, "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    argv += [str(folder / "play.yml"), "-v", "--diff", *(["--check"] if check else [])]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads((folder / "answers").read_text())
    return dict(zip(CASES, answers, strict=True)), done.stdout + done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return play(tmp_path_factory.mktemp("run"), check=False)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return play(tmp_path_factory.mktemp("check"), check=True)


def test_nobody_sees_a_traceback_or_a_secret(ran: Ran, predicted: Ran) -> None:
    for _answers, printed in (ran, predicted):
        assert "Traceback" not in printed
        assert RESOURCE["secret"] not in printed


def test_an_instance_is_defined_and_started(ran: Ran) -> None:
    answer = ran[0]["defined and started"]
    assert answer["changes"] == ["defined domain web1", "started domain web1"]
    assert answer["instance"]["state"] == "running"
    assert "+state: running" in ran[1]


def test_check_mode_says_the_same_and_does_nothing(ran: Ran, predicted: Ran) -> None:
    answer = predicted[0]["defined and started"]
    assert answer["changes"] == ran[0]["defined and started"]["changes"]
    assert answer["instance"] == {}
    assert "+state: running" in predicted[1]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("without xml", "give its xml"),
        ("no libvirt", "test:///nowhere.xml does not answer"),
        ("migrated", "web1 is not defined on this node"),
        ("paired wrongly", "drbdadm does not accept the configuration of unit-test-pair"),
        ("paired without a device", "/dev/vg0/x-meta cannot be read: No such file or directory"),
        ("no group", "there is no volume group no-such-group"),
        ("no sum", "is not a SHA-256 sum"),
        ("no device", "/etc/hostname is not a block device"),
    ],
)
def test_what_cannot_be_done_says_why(ran: Ran, case: str, said: str) -> None:
    assert ran[0][case]["failed"]
    assert said in ran[0][case]["msg"]


def test_a_pair_is_predicted(ran: Ran) -> None:
    assert ran[0]["paired"]["changes"] == ["configured unit-test-pair"]
    assert "@SECRET@" in ran[1]
    assert not Path("/etc/drbd.d/unit-test-pair.res").exists()


def test_a_pair_that_cannot_be_made_leaves_no_file(ran: Ran) -> None:
    assert ran[0]["paired without a device"]["remedy"]
    assert not Path("/etc/drbd.d/unit-test-typo.res").exists()


def test_an_image_that_is_not_there_is_not_removed(ran: Ran) -> None:
    assert not ran[0]["no image"]["changed"]

# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: what is kept, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._errors import Refused, TwofoldError, UsageError
from ansible_collections.twofold.cluster.plugins.module_utils._files import write_bytes
from ansible_collections.twofold.cluster.plugins.module_utils._images import SystemImages, parse_info, refuse_references
from ansible_collections.twofold.cluster.plugins.module_utils._runner import SystemRunner
from ansible_collections.twofold.cluster.plugins.module_utils._seed import SystemSeeds

SUM = hashlib.sha256(b"image").hexdigest()


def quiet(_done: int, _total: int) -> None:
    return


@pytest.fixture
def images(tmp_path: Path) -> SystemImages:
    return SystemImages(SystemRunner(), str(tmp_path / "images"))


@pytest.fixture
def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_fetched_image_is_kept_under_its_sum(images: SystemImages, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"image")
    images.fetch(SUM, f"file://{source}", quiet)
    assert images.cached() == [SUM]
    assert Path(images.path(SUM)).read_bytes() == b"image"


def test_a_wrong_sum_leaves_nothing_and_says_both(images: SystemImages, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"other")
    with pytest.raises(Refused) as error:
        images.fetch(SUM, str(source), quiet)
    assert SUM in error.value.message
    assert hashlib.sha256(b"other").hexdigest() in error.value.message
    assert list((tmp_path / "images").iterdir()) == []


def test_a_missing_source_leaves_nothing(images: SystemImages, tmp_path: Path) -> None:
    with pytest.raises(TwofoldError, match="cannot be fetched"):
        images.fetch(SUM, str(tmp_path / "nowhere"), quiet)
    assert list((tmp_path / "images").iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 90\r\n\r\nshort",
        b"no HTTP at all\r\n",
        b"",
        b"HTTP/1.0 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["cut off", "no HTTP", "nothing", "no length"],
)
def test_a_server_that_breaks_off_is_named(images: SystemImages, tmp_path: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _address = server.accept()
            connection.recv(4096)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/image"
        with pytest.raises(TwofoldError, match=f"{url} cannot be fetched") as error:
            images.fetch(SUM, url, quiet)
        thread.join()
    assert error.value.remedy and list((tmp_path / "images").iterdir()) == []


@pytest.mark.parametrize("url", ["http://[1/x", "http://h:port/x", "http://h/a b"])
def test_an_address_that_is_none_is_named(images: SystemImages, url: str) -> None:
    with pytest.raises(TwofoldError, match="cannot be fetched") as error:
        images.fetch(SUM, url, quiet)
    assert url in error.value.message


def test_what_killed_fetches_left_goes_with_the_next_one_of_the_same_image(
    images: SystemImages, tmp_path: Path, dead: int
) -> None:
    source, folder = tmp_path / "source", tmp_path / "images"
    source.write_bytes(b"image")
    folder.mkdir()
    stays = [f"{SUM}.{os.getppid()}.part", f"{'ab' * 32}.{dead}.part", f"{SUM}.x.part"]
    for name in [*stays, f"{SUM}.{dead}.part"]:
        (folder / name).write_bytes(b"half")
    images.fetch(SUM, str(source), quiet)
    assert sorted(one.name for one in folder.iterdir()) == sorted([*stays, SUM])


def test_what_killed_writes_left_goes_with_the_next_one_of_the_same_file(tmp_path: Path, dead: int) -> None:
    stays = [f".web1.res.{os.getppid()}.new", f".web10.res.{dead}.new", f".web1.res.{dead}.old"]
    for name in [*stays, f".web1.res.{dead}.new"]:
        (tmp_path / name).write_text("shared-secret")
    write_bytes(str(tmp_path / "web1.res"), b"new", 0o600)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([*stays, "web1.res"])


def test_what_killed_seeds_left_goes_with_the_next_one_of_the_same_instance(tmp_path: Path, dead: int) -> None:
    stays = [f".web1.{os.getppid()}.abcd", f".web1.x.{dead}.abcd", f".web2.{dead}.abcd"]
    for name in [*stays, f".web1.{dead}.abcd"]:
        (tmp_path / name / "files").mkdir(parents=True)
    SystemSeeds(SystemRunner(), str(tmp_path)).write("web1", "ab" * 32, {"user-data": "#cloud-config\n"})
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([*stays, "web1.iso"])


def test_an_upload_is_taken_in(images: SystemImages, tmp_path: Path) -> None:
    uploaded = tmp_path / "uploaded"
    uploaded.write_bytes(b"image")
    images.adopt(SUM, str(uploaded), quiet)
    assert images.cached() == [SUM]
    assert not uploaded.exists()


@pytest.mark.parametrize("url", ["ftp://x/y", "data:,x", "gopher://x"])
def test_other_kinds_of_addresses_are_refused(images: SystemImages, url: str) -> None:
    with pytest.raises(UsageError):
        images.fetch(SUM, url, quiet)


def test_recorded_images(recorded: Callable[[str], str]) -> None:
    info = parse_info(recorded("qemu-img/info-qcow2.json"))
    assert info["virtual-size"] == 64 << 20
    refuse_references("x", info)
    for hostile in ("backing", "data-file"):
        with pytest.raises(Refused, match="refers to another file"):
            refuse_references("x", parse_info(recorded(f"qemu-img/info-{hostile}.json")))


def test_a_hostile_image_is_refused_by_the_real_tool(images: SystemImages, tmp_path: Path) -> None:
    good, hostile = tmp_path / "good.qcow2", tmp_path / "hostile.qcow2"
    runner = SystemRunner()
    runner.run(["qemu-img", "create", "-q", "-f", "qcow2", str(good), "8M"], mutates=True)
    (tmp_path / "secret").write_bytes(bytes(512))
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret"), str(hostile)]
    runner.run(argv, mutates=True)
    assert images.virtual_size(str(good), "qcow2") == 8 << 20
    with pytest.raises(Refused, match="refers to another file"):
        images.virtual_size(str(hostile), "qcow2")
    with pytest.raises(UsageError):
        images.virtual_size(str(good), "vmdk")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"virtual-size": "x"}'])
def test_other_output_is_told_apart(text: str) -> None:
    with pytest.raises(TwofoldError, match="qemu-img info"):
        parse_info(text)
    assert text in json.dumps(text) or text


def test_the_same_seed_is_the_same_bytes(tmp_path: Path) -> None:
    files = {"meta-data": "instance-id: web1\n", "user-data": "#cloud-config\n", "network-config": "version: 2\n"}
    made = []
    for folder in ("one", "two"):
        seeds = SystemSeeds(SystemRunner(), str(tmp_path / folder))
        assert seeds.digest("web1") is None
        seeds.write("web1", "ab" * 32, files)
        assert seeds.digests() == {"web1": "ab" * 32}
        path = tmp_path / folder / "web1.iso"
        assert path.stat().st_mode & 0o777 == 0o600
        made.append(path.read_bytes())
        assert [one.name for one in (tmp_path / folder).iterdir()] == ["web1.iso"]
    assert made[0] == made[1]
    assert made[0][16 * 2048 + 40 : 16 * 2048 + 72].strip() == b"cidata"
    assert b"#cloud-config" in made[0]


@pytest.mark.parametrize("name", ["../x", "etc/passwd", "motd"])
def test_a_seed_has_only_the_files_that_cloud_init_reads(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        SystemSeeds(SystemRunner(), str(tmp_path)).write("web1", "ab" * 32, {name: "x"})

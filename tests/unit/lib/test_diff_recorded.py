# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt makes of a domain that we rendered is no drift, and any change of it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.planner import diff

RECORDED = Path(__file__).parent / "recorded"
RENDERED = (RECORDED / "rendered.xml").read_text(encoding="utf-8")
# `virsh dumpxml --inactive` after RENDERED was defined, started and migrated once (libvirt 11.3.0).
LIBVIRT = (RECORDED / "libvirt-11.3-inactive.xml").read_text(encoding="utf-8")


def test_what_libvirt_stores_is_not_drift() -> None:
    assert diff.domain(RENDERED, LIBVIRT) == []
    assert diff.extra_devices(RENDERED, LIBVIRT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<vcpu placement='static'>1", "<vcpu placement='static'>2"),
        ("model='none'", "model='qemu-xhci'"),
        ("bridge='br-lan'", "bridge='br-other'"),
        ("cache='none'", "cache='writeback'"),
        ("<memory unit='KiB'>65536", "<memory unit='KiB'>131072"),
    ],
)
def test_a_change_behind_our_back_is_found(old: str, new: str) -> None:
    assert old in LIBVIRT
    assert len(diff.domain(RENDERED, LIBVIRT.replace(old, new))) == 1

# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt says of a domain that something works on."""

from __future__ import annotations

import libvirt
import pytest
from ansible_collections.twofold.cluster.plugins.module_utils._libvirt import has_job


class Answers:
    """A domain whose libvirt answers a question for its job with an error."""

    def __init__(self, code: int) -> None:
        self.error = libvirt.libvirtError("")
        self.error.err = (code, 0, "an answer of libvirt's", 2)

    def jobInfo(self) -> list[int]:
        raise self.error


def test_a_migration_that_comes_in_is_a_job_though_only_its_source_can_count_it() -> None:
    assert has_job(Answers(libvirt.VIR_ERR_OPERATION_UNSUPPORTED))


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT])
def test_a_domain_that_is_off_and_a_driver_without_jobs_have_none(code: int) -> None:
    assert not has_job(Answers(code))

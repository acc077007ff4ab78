# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the node side. Each says which object, what is wrong and, as its remedy, what to do about it."""

from __future__ import annotations

AGAIN = "then run the same again, it goes on from what it finds"
OTHER_VERSION = "use the same version of Twofold on both sides"
# Where more is told of a tool's failure than it says itself.
DRBD, LVM, KERNEL = "'drbdadm status' and dmesg", "'vgs', 'lvs -a' and dmesg", "dmesg and 'journalctl -e'"
TELLING = {
    **dict.fromkeys(("drbdadm", "drbdsetup"), DRBD),
    **dict.fromkeys(("dmsetup", "lvm", "lvchange", "lvcreate", "lvextend", "lvremove", "lvrename", "pvs"), LVM),
    **dict.fromkeys(("vgchange", "vgcreate", "vgextend"), LVM),
}


def look_at(what: str) -> str:
    return f"look at {what} on this node and mend what they tell, {AGAIN}"


class TwofoldError(Exception):
    """Something that a person has to know; never a programming mistake."""

    # What to do about any error of a kind, if who raises it knows nothing better.
    REMEDY: str | None = None

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.REMEDY

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(TwofoldError):
    """An argument is missing, of the wrong kind, or contradicts another."""


class Refused(TwofoldError):
    """A precondition does not hold; nothing was changed."""


class Missing(TwofoldError):
    """A tool, a library or a kernel module is not there."""


class TimedOut(TwofoldError):
    """What was waited for did not happen; the message says what was seen last."""

    REMEDY = f"see whether a disk, a link or a program hangs there ({KERNEL} on this node), {AGAIN}"


class ParseFailed(TwofoldError):
    """A tool said something that is not understood."""

    def __init__(self, tool: str, text: str, where: str, remedy: str | None = None) -> None:
        shown = text if len(text) <= 300 else text[:300] + "..."
        remedy = remedy or f"report this with the version of {tool}"
        super().__init__(f"cannot understand what {tool} said ({where}): {shown!r}", remedy)


class CommandFailed(TwofoldError):
    """A command ended with an error."""

    def __init__(self, argv: list[str], code: int, stdout: str, stderr: str, remedy: str | None = None) -> None:
        said = (stderr.strip() or stdout.strip() or "no output").replace("\n", "; ")
        remedy = remedy or look_at(TELLING.get(argv[0], KERNEL))
        super().__init__(f"{' '.join(argv)} ended with {code}: {said[-1500:]}", remedy)
        self.argv = argv
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class HypervisorError(TwofoldError):
    """libvirt refused something."""

    REMEDY = look_at("'journalctl -u libvirtd -u virtqemud' and the guest's log in /var/log/libvirt/qemu")


class NoAnswer(HypervisorError):
    """libvirt takes what it is asked and says nothing; its guests may be well."""

    def __init__(self, uri: str, seconds: float) -> None:
        remedy = "look at libvirtd (or virtqemud) there and restart it: its guests run on"
        super().__init__(f"libvirt at {uri} did not answer within {seconds:.0f} s", remedy)

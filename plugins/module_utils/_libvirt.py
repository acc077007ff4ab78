# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt: the domains of a node. One connection a call, made when it is first needed."""

from __future__ import annotations

from contextlib import suppress
from functools import partial, wraps
from typing import Any, Callable, NamedTuple, Protocol, TypeVar, cast

from ._clock import Clock
from ._errors import HypervisorError, Missing, NoAnswer
from ._limit import ANSWER, CHANGE, within
from ._migration import PAUSE, Job, Look, Migration, Outcome, Watch, run_migration

URI = "qemu:///system"
TLS_PORT = 16514
# Seconds between two pings, and how many of them: with this a libvirtd that has stopped ends every call after ANSWER,
# also one that may take hours, as virsh does it.
PING, PINGS = 15, 5
LOOK_THERE = "look at libvirtd there"
STATES = {
    0: "nostate", 1: "running", 2: "blocked", 3: "paused", 4: "shutdown", 5: "shutoff", 6: "crashed", 7: "pmsuspended",
}  # fmt: skip
# A domain that is crashed has its QEMU still (on_crash=preserve), and with it its disks.
OFF = ("shutoff",)
# Its post-copy migration lost its connection: what the guest has in memory is on two nodes.
POSTCOPY_FAILED = "postcopy-failed"
TORN = "what it has in memory is on both nodes since its post-copy migration lost its connection"
END_TORN = "'virsh destroy {}' on both nodes, then run site.yml: it starts from its disks, without what was in memory"
SHUTOFF_REASONS = {
    0: "unknown", 1: "shutdown", 2: "destroyed", 3: "crashed", 4: "migrated", 5: "saved", 6: "failed",
    7: "from snapshot", 8: "daemon",
}  # fmt: skip


class Domain(NamedTuple):
    """A domain as libvirt has it; `stranded` if a migration that is over has left it paused."""

    name: str
    uuid: str
    state: str
    persistent: bool
    autostart: bool
    memory: int
    vcpus: int
    xml: str
    migrating: bool
    stranded: bool = False

    @property
    def active(self) -> bool:
        return self.state not in OFF


class Hypervisor(Protocol):
    """The hypervisor of a node."""

    def versions(self) -> dict[str, str | None]: ...

    def domains(self) -> dict[str, Domain]: ...

    def domain(self, name: str) -> Domain | None: ...

    def live_xml(self, name: str) -> str: ...

    def define(self, xml: str) -> None: ...

    def undefine(self, name: str) -> None: ...

    def set_autostart(self, name: str, autostart: bool) -> None: ...

    def start(self, name: str) -> None: ...

    def shutdown(self, name: str) -> None: ...

    def destroy(self, name: str) -> None: ...

    def suspend(self, name: str) -> None: ...

    def resume(self, name: str) -> None: ...

    def disk_size(self, name: str, target: str) -> int: ...

    def resize_disk(self, name: str, target: str, size: int) -> None: ...

    def migrate(self, wanted: Migration, say: Look) -> Outcome: ...

    def elsewhere(self, uri: str, name: str) -> str | None: ...

    def live_xml_at(self, uri: str, name: str) -> str: ...

    def go_on_at(self, uri: str, name: str) -> None: ...

    def discard_at(self, uri: str, name: str) -> None: ...


T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


def limited(seconds: float) -> Callable[[Method], Method]:
    """For a method of Libvirt: it gives up after so long. If libvirtd took no connection, no other asks again."""

    def decorate(method: Method) -> Method:
        @wraps(method)
        def ask(self: Libvirt, *args: Any) -> Any:
            if self.silent is not None:
                raise self.silent
            try:
                return within(seconds, partial(method, self, *args), NoAnswer(self.uri, seconds))
            except NoAnswer as error:
                if self._connection is None:
                    self.silent = error
                raise

        return cast(Method, ask)

    return decorate


class Libvirt:
    """The real thing."""

    def __init__(self, clock: Clock, uri: str = URI) -> None:
        self.clock = clock
        self.uri = uri
        self.silent: NoAnswer | None = None
        self._connection: Any = None
        # To the host to which a guest is being migrated: it waits there for one word, which comes at once.
        self._target: Any = None

    @property
    def connection(self) -> Any:
        """Made anew when libvirtd has gone meanwhile: it may be restarted at any time, guests run on."""
        if self._connection is not None and not is_alive(self._connection):
            self._connection = None
        if self._connection is None:
            self._connection = connect(self.uri)
        return self._connection

    @limited(ANSWER)
    def versions(self) -> dict[str, str | None]:
        call = self._call
        library = call("its version", self.connection.getLibVersion)
        hypervisor = call("the hypervisor's version", self.connection.getVersion)
        return {"libvirt": dotted(library), "qemu": dotted(hypervisor)}

    def _call(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        import libvirt

        try:
            return function(*args)
        except libvirt.libvirtError as error:
            remedy = None if is_alive(self._connection) else LOOK_THERE
            raise HypervisorError(f"libvirt: {what}: {error.get_error_message()}", remedy) from error

    def _lookup(self, name: str) -> Any:
        """The domain, or None."""
        return lookup(self.connection, name)

    def _need(self, name: str) -> Any:
        domain = self._lookup(name)
        if domain is None:
            raise HypervisorError(
                f"domain {name} is not defined here", "run the same again, it plans on what is there now"
            )
        return domain

    @limited(ANSWER)
    def domains(self) -> dict[str, Domain]:
        found = {}
        for domain in self._call("list domains", self.connection.listAllDomains, 0):
            one = self._describe(domain)
            if one is not None:
                found[one.name] = one
        return found

    @limited(ANSWER)
    def domain(self, name: str) -> Domain | None:
        found = self._lookup(name)
        return None if found is None else self._describe(found)

    def _describe(self, domain: Any) -> Domain | None:
        """None if it went away meanwhile."""
        import libvirt

        try:
            return with_its_error(describe, domain)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise HypervisorError(f"libvirt: describe a domain: {error.get_error_message()}") from error

    @limited(ANSWER)
    def why_off(self, name: str) -> str:
        """Why a domain is off: `crashed`, `shutdown` and so on; `unknown` after a boot."""
        state, reason = self._call(f"ask for the state of {name}", self._need(name).state)
        return SHUTOFF_REASONS.get(reason, str(reason)) if STATES.get(state) == "shutoff" else "unknown"

    @limited(ANSWER)
    def live_xml(self, name: str) -> str:
        """The XML of the domain as it runs."""
        text: str = self._call(f"read domain {name}", self._need(name).XMLDesc, 0)
        return text

    @limited(CHANGE)
    def define(self, xml: str) -> None:
        import libvirt

        self._call("define a domain", self.connection.defineXMLFlags, xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    @limited(CHANGE)
    def undefine(self, name: str) -> None:
        """Removes the definition with what belongs to it (NVRAM, managed save), not the disks."""
        domain = self._need(name)
        self._call(f"undefine {name}", domain.undefineFlags, undefine_flags(self.connection))

    @limited(CHANGE)
    def set_autostart(self, name: str, autostart: bool) -> None:
        self._call(f"set autostart of {name}", self._need(name).setAutostart, int(autostart))

    @limited(CHANGE)
    def start(self, name: str) -> None:
        self._call(f"start {name}", self._need(name).create)

    @limited(CHANGE)
    def shutdown(self, name: str) -> None:
        """Asks the guest to shut down."""
        self._call(f"shut down {name}", self._need(name).shutdown)

    @limited(CHANGE)
    def destroy(self, name: str) -> None:
        """Takes the power away; fine if it is off already."""
        domain = self._lookup(name)
        if domain is not None and self._call(f"ask for the state of {name}", domain.isActive):
            self._call(f"power off {name}", domain.destroy)

    @limited(CHANGE)
    def suspend(self, name: str) -> None:
        self._call(f"pause {name}", self._need(name).suspend)

    @limited(CHANGE)
    def resume(self, name: str) -> None:
        self._call(f"resume {name}", self._need(name).resume)

    @limited(ANSWER)
    def disk_size(self, name: str, target: str) -> int:
        """Bytes of a disk as the running guest sees it."""
        return int(self._call(f"size of {target} of {name}", self._need(name).blockInfo, target, 0)[0])

    @limited(CHANGE)
    def resize_disk(self, name: str, target: str, size: int) -> None:
        """Tells the running guest about its disk's new size in bytes."""
        import libvirt

        resize, flag = self._need(name).blockResize, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        self._call(f"resize {target} of {name}", resize, target, size, flag)

    def migrate(self, wanted: Migration, say: Look) -> Outcome:
        """Runs the whole migration; after it the guest may wait on the target until `go_on_at`."""
        if wanted.waits:
            with suppress(HypervisorError):
                require_answer(wanted.uri)
                self._target = connect(wanted.uri)
        outcome = run_migration(self._need(wanted.name), wanted, self.clock, say)
        if outcome.error is not None:
            self._target = None
            # Where the guest is in the end, the caller asks.
            with suppress(HypervisorError):
                return self._follow(wanted, say, outcome)
        return outcome

    def _follow(self, wanted: Migration, say: Look, outcome: Outcome) -> Outcome:
        """Goes along with a job that outlives the connection over which it was begun, as long as there is one."""
        started = self.clock.monotonic() - outcome.stats["milliseconds"] / 1000
        watch = Watch(Job(self._need(wanted.name), wanted), self.clock, started, outcome)
        while (domain := self._lookup(wanted.name)) is not None and self._call("look at the job", has_job, domain):
            watch.look(say)
            self.clock.sleep(PAUSE)
        return outcome._replace(timed_out=watch.timed_out, switched=watch.switched, unsafe=watch.unsafe)

    def domains_at(self, uri: str) -> dict[str, str]:
        """The domains of another host with their states."""
        return ask_there(uri, states_of)

    def elsewhere(self, uri: str, name: str) -> str | None:
        """The state of a domain on another host, or None if it does not exist there."""

        def look(other: Any) -> str | None:
            found = lookup(other, name)
            return None if found is None else state_of(found)

        return ask_there(uri, look)

    def live_xml_at(self, uri: str, name: str) -> str:
        """The XML of a domain as it runs, or waits, on another host."""

        def read(other: Any) -> str:
            text: str = there(other, name).XMLDesc(0)
            return text

        return ask_there(uri, read)

    def go_on_at(self, uri: str, name: str) -> None:
        """Lets a guest go on that waits, paused, on another host."""

        def go_on(other: Any) -> None:
            found = there(other, name)
            if state_of(found) == "paused":
                found.resume()

        opened, self._target = self._target, None
        if opened is not None:
            with suppress(HypervisorError):
                ask_there(uri, go_on, opened)
                return
        ask_there(uri, go_on)

    def discard_at(self, uri: str, name: str) -> None:
        """Ends a guest that is paused on another host, with its definition."""

        def discard(other: Any) -> None:
            found = there(other, name)
            if state_of(found) != "paused":
                raise HypervisorError(f"domain {name} at {uri} is {state_of(found)}", "run site.yml")
            persistent = found.isPersistent()
            found.destroy()
            if persistent:
                found.undefineFlags(undefine_flags(other))

        ask_there(uri, discard)


def ask_there(uri: str, question: Callable[[Any], T], opened: Any = None) -> T:
    """Asks another host's libvirt, over a connection of its own, or one that was opened for it before."""
    if opened is None:
        require_answer(uri)

    def ask() -> T:
        import libvirt

        other = connect(uri) if opened is None else opened
        try:
            return question(other)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"libvirt at {uri}: {error.get_error_message()}", LOOK_THERE) from error
        finally:
            other.close()

    return within(ANSWER, ask, NoAnswer(uri, ANSWER))


def there(connection: Any, name: str) -> Any:
    """The domain at another host."""
    found = lookup(connection, name)
    if found is None:
        raise HypervisorError(f"domain {name} is not defined at {connection.getURI()}", "run site.yml")
    return found


def undefine_flags(connection: Any) -> int:
    """libvirt's flags for a definition and all that belongs to it, as far as the driver knows them."""
    import libvirt

    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    if connection.getType() != "TEST":
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    return int(flags)


def states_of(connection: Any) -> dict[str, str]:
    return {domain.name(): state_of(domain) for domain in connection.listAllDomains(0)}


def describe(domain: Any) -> Domain:
    import libvirt

    _state, maximum, _memory, vcpus, _time = domain.info()
    state, reason = domain.state()
    persistent = bool(domain.isPersistent())
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE if persistent else 0)
    autostart = bool(domain.autostart()) if persistent else False
    word = word_for(state, reason)
    migrating = word not in OFF and has_job(domain)
    stranded = word == "paused" and not migrating and reason == libvirt.VIR_DOMAIN_PAUSED_MIGRATION
    return Domain(
        domain.name(), domain.UUIDString(), word, persistent, autostart, maximum * 1024, vcpus, xml, migrating, stranded
    )


def state_of(domain: Any) -> str:
    return word_for(*domain.state())


def word_for(state: int, reason: int) -> str:
    """The word for libvirt's state of a domain and the reason for it."""
    import libvirt

    # At the target the guest runs on with what it has, until it needs a page that it has not.
    failed = (
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    )
    return POSTCOPY_FAILED if (state, reason) in failed else STATES.get(state, str(state))


def is_alive(connection: Any) -> bool:
    """Whether libvirtd is still at the other end."""
    import libvirt

    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


_events: list[Any] = []


def answer_pings() -> None:
    """libvirt hangs up on who does not answer its pings for half a minute, and a step may take hours.

    Has to be there before the first connection. Events, like the final numbers of a migration, come the same way.
    """
    import threading

    import libvirt

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    if not _events:
        libvirt.virEventRegisterDefaultImpl()
        _events.append(threading.Thread(target=run, daemon=True))
        _events[0].start()


def connect(uri: str) -> Any:
    """A connection that notices when libvirtd stops; libvirt's habit of printing errors is turned off."""
    try:
        import libvirt
    except ImportError as error:
        raise Missing("python3-libvirt is not installed on this node", "install python3-libvirt") from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    answer_pings()
    try:
        connection = within(ANSWER, lambda: libvirt.open(uri), NoAnswer(uri, ANSWER))
    except libvirt.libvirtError as error:
        message = error.get_error_message()
        raise HypervisorError(f"libvirt at {uri} does not answer: {message}", LOOK_THERE) from error
    # Drivers that run within this process have no pings.
    with suppress(libvirt.libvirtError):
        connection.setKeepAlive(PING, PINGS)
    return connection


def require_answer(uri: str, seconds: float = 5.0) -> None:
    """Raises HypervisorError if nobody listens at a `qemu+tls://` address; libvirt itself would wait for minutes."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    if not parts.scheme.endswith("+tls") or parts.hostname is None:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or TLS_PORT), timeout=seconds).close()
    except OSError as error:
        raise HypervisorError(f"libvirt at {uri} does not answer: {error}", LOOK_THERE) from error


def with_its_error(function: Callable[..., T], *args: Any) -> T:
    """Asks libvirt where the kind of its error matters; once more if that was lost.

    libvirt's bindings read it a moment after the call. When Python's collector finalises another domain in between, it
    is reset.
    """
    import libvirt

    try:
        return function(*args)
    except libvirt.libvirtError as error:
        if error.get_error_code() is not None:
            raise
    return function(*args)


def lookup(connection: Any, name: str) -> Any:
    import libvirt

    try:
        return with_its_error(connection.lookupByName, name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise HypervisorError(f"libvirt: look up {name}: {error.get_error_message()}") from error


def has_job(domain: Any) -> bool:
    """Whether a migration or another long job works on a domain."""
    import libvirt

    try:
        if state_of(domain) == POSTCOPY_FAILED:
            # libvirt keeps the job, for somebody who resumes it.
            return False
        return bool(with_its_error(domain.jobInfo)[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError as error:
        # A migration comes in here; only its source can count it.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return True
        if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT):
            return False
        raise


def dotted(number: int) -> str:
    """libvirt's way of numbering versions, readable."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"

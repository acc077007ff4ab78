# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One live migration: one libvirt job, watched and, when it takes too long, aborted."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Callable, NamedTuple, Optional

from ._clock import Clock
from ._errors import HypervisorError

PAUSE = 0.25
# What libvirt's jobStats calls it, and what we call it.
STATS = {
    "time_elapsed": "milliseconds", "downtime": "downtime_ms", "data_total": "bytes_total",
    "data_processed": "bytes_processed", "data_remaining": "bytes_remaining", "memory_bps": "memory_rate",
    "memory_dirty_rate": "dirty_pages_rate", "memory_iteration": "iteration", "auto_converge_throttle": "throttle",
    "disk_total": "disk_total", "disk_processed": "disk_processed", "setup_time": "setup_ms",
}  # fmt: skip


class Migration(NamedTuple):
    """What is wanted of a migration. The downtime is in milliseconds, other times in seconds."""

    name: str
    uri: str
    migrate_uri: str | None = None
    xml: str | None = None
    bandwidth: int | None = None  # bytes a second
    downtime: int | None = None
    auto_converge: bool = False
    postcopy_seconds: float | None = None
    postcopy_iterations: int | None = None
    parallel: int | None = None
    tls: bool = True
    tls_hostname: str | None = None
    timeout: float | None = None
    copy_disks: tuple[str, ...] = ()  # targets such as vda; "*" for every disk that the guest can write
    persist: bool = True

    @property
    def postcopy(self) -> bool:
        return self.postcopy_seconds is not None or self.postcopy_iterations is not None

    @property
    def waits(self) -> bool:
        """Whether the target's half waits, paused, until this side knows that its own is gone.

        A peer-to-peer migration whose last answer is lost goes on at the source, and libvirt has no other way to keep
        the target's half from running then (qemuMigrationSrcPerformPeer2Peer3 says so). It has none with post-copy.
        """
        return not self.postcopy


# Is told libvirt's numbers now and then; returns why the job has to be aborted, or None.
Look = Callable[[dict[str, Any]], Optional[str]]


class Outcome(NamedTuple):
    """How it went: an error message or None, libvirt's numbers, and why it was to be aborted."""

    error: str | None
    timed_out: bool
    switched: bool
    stats: dict[str, Any]
    unsafe: str | None = None


def flags_of(wanted: Migration) -> int:
    """libvirt's flags."""
    import libvirt

    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    if wanted.persist:
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    for on, flag in (
        (wanted.tls, libvirt.VIR_MIGRATE_TLS),
        (wanted.auto_converge, libvirt.VIR_MIGRATE_AUTO_CONVERGE),
        (wanted.postcopy, libvirt.VIR_MIGRATE_POSTCOPY),
        (wanted.waits, libvirt.VIR_MIGRATE_PAUSED),
        (wanted.copy_disks, libvirt.VIR_MIGRATE_NON_SHARED_DISK),
        (wanted.parallel, libvirt.VIR_MIGRATE_PARALLEL),
    ):
        if on:
            flags |= flag
    return int(flags)


def parameters_of(wanted: Migration) -> dict[str, Any]:
    """libvirt's typed parameters."""
    import libvirt

    parameters: dict[str, Any] = {}
    for key, value in (
        (libvirt.VIR_MIGRATE_PARAM_URI, wanted.migrate_uri),
        (libvirt.VIR_MIGRATE_PARAM_BANDWIDTH, mebibytes(wanted.bandwidth)),
        (libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, wanted.parallel),
        (libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION, wanted.tls_hostname),
    ):
        if value:
            parameters[key] = value
    if wanted.xml and wanted.persist:
        parameters[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = wanted.xml
    if wanted.copy_disks:
        if "*" not in wanted.copy_disks:
            parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(wanted.copy_disks)
        if wanted.migrate_uri:
            # The disks take the same network as the memory.
            parameters[libvirt.VIR_MIGRATE_PARAM_DISKS_URI] = wanted.migrate_uri
    return parameters


def mebibytes(rate: int | None) -> int | None:
    """libvirt's unit of bandwidth, never rounded down to nothing, which would mean no limit."""
    return None if rate is None else max(1, rate >> 20)


def run_migration(domain: Any, wanted: Migration, clock: Clock, say: Look) -> Outcome:
    """Starts the job in a thread (libvirt releases the interpreter) and watches it from here."""
    import threading

    job = Job(domain, wanted)
    if wanted.downtime:
        job.set_downtime()
    thread = threading.Thread(target=job.run, daemon=True)
    started = clock.monotonic()
    watch = Watch(job, clock, started)
    with Completion(domain) as completion:
        thread.start()
        while thread.is_alive():
            thread.join(PAUSE)
            if thread.is_alive():
                watch.look(say)
    stats = {**watch.last, **job.completed(), **translate(completion.stats)}
    stats.setdefault("milliseconds", int((clock.monotonic() - started) * 1000))
    stats["postcopy"] = watch.switched
    return Outcome(job.error, watch.timed_out, watch.switched, stats, watch.unsafe)


class Completion:
    """libvirt's final numbers of a job. They come as an event, since the domain is gone from here when it is over."""

    def __init__(self, domain: Any) -> None:
        import threading

        self.domain = domain
        self.stats: dict[str, Any] = {}
        self.arrived = threading.Event()
        self.callback: int | None = None

    def __enter__(self) -> Completion:
        import libvirt

        event = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
        with suppress(libvirt.libvirtError):
            self.callback = self.domain.connect().domainEventRegisterAny(self.domain, event, self._note, None)
        return self

    def _note(self, _connection: Any, _domain: Any, stats: dict[str, Any], _self: Any) -> None:
        self.stats = stats
        self.arrived.set()

    def __exit__(self, *_error: object) -> None:
        import libvirt

        if self.callback is None:
            return
        self.arrived.wait(1)
        with suppress(libvirt.libvirtError):
            self.domain.connect().domainEventDeregisterAny(self.callback)


class Job:
    """The blocking call and what may be done to it meanwhile."""

    def __init__(self, domain: Any, wanted: Migration) -> None:
        self.domain = domain
        self.wanted = wanted
        self.error: str | None = None

    def run(self) -> None:
        import libvirt

        try:
            self.domain.migrateToURI3(self.wanted.uri, parameters_of(self.wanted), flags_of(self.wanted))
        except libvirt.libvirtError as error:
            self.error = error.get_error_message()

    def set_downtime(self) -> None:
        import libvirt

        try:
            self.domain.migrateSetMaxDowntime(self.wanted.downtime, 0)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"libvirt: set the downtime: {error.get_error_message()}") from error

    def stats(self) -> dict[str, Any]:
        """The running job in our words; empty when there is nothing to say."""
        return translate(self._read(0))

    def completed(self) -> dict[str, Any]:
        import libvirt

        return translate(self._read(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED))

    def _read(self, flags: int) -> dict[str, Any]:
        import libvirt

        try:
            found: dict[str, Any] = self.domain.jobStats(flags)
            return found
        except libvirt.libvirtError:
            return {}

    def abort(self) -> None:
        import libvirt

        try:
            self.domain.abortJob()
        except libvirt.libvirtError:
            return

    def switch(self) -> bool:
        """Switches to post-copy."""
        import libvirt

        try:
            self.domain.migrateStartPostCopy(0)
        except libvirt.libvirtError:
            return False
        return True


class Watch:
    """Looks at a job now and then: progress, post-copy when it is time, abort when it is too late."""

    def __init__(self, job: Job, clock: Clock, started: float, before: Outcome | None = None) -> None:
        """`before` is how it went as long as another one looked at it."""
        self.job = job
        self.clock = clock
        self.started = started
        self.last: dict[str, Any] = {}
        self.timed_out = before is not None and before.timed_out
        self.switched = before is not None and before.switched
        self.unsafe: str | None = before.unsafe if before is not None else None

    def look(self, say: Look) -> None:
        stats = self.job.stats()
        if stats:
            self.last = stats
            self.unsafe = self.unsafe or say(stats)
        elapsed = self.clock.monotonic() - self.started
        wanted = self.job.wanted
        if wanted.postcopy and not self.switched and self._due(elapsed, stats):
            self.switched = self.job.switch()
        self.timed_out = self.timed_out or bool(wanted.timeout and elapsed > wanted.timeout and not self.switched)
        # After the switch the guest lives on the target: aborting would kill it.
        if (self.timed_out or self.unsafe) and not self.switched:
            self.job.abort()

    def _due(self, elapsed: float, stats: dict[str, Any]) -> bool:
        wanted = self.job.wanted
        if wanted.postcopy_seconds is not None and elapsed >= wanted.postcopy_seconds:
            return True
        iteration = stats.get("iteration", 0)
        return wanted.postcopy_iterations is not None and iteration > wanted.postcopy_iterations


def translate(stats: dict[str, Any]) -> dict[str, Any]:
    """libvirt's numbers under our names."""
    return {ours: stats[theirs] for theirs, ours in STATS.items() if theirs in stats}

# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small synchronous client of QEMU's machine protocol (QMP)."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import LabError


class Qmp:
    """One connection to one machine's QMP socket; use as a context manager."""

    def __init__(self, path: Path, subject: str, timeout: float = 30) -> None:
        """timeout: seconds to wait for any one answer."""
        self.subject = subject
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
            self.stream = self.socket.makefile("rw", encoding="utf-8")
            self._read()
            self.execute("qmp_capabilities")
        except OSError as error:
            self.socket.close()
            raise LabError(f"{subject}: its QEMU does not answer ({error}); is it powered on?") from None

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        self.socket.close()

    def _read(self) -> dict[str, Any]:
        line = self.stream.readline()
        if not line:
            raise LabError(f"{self.subject}: its QEMU closed the control socket; see its log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its result; events in between are skipped."""
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            try:
                answer = self._read()
            except TimeoutError:
                raise LabError(f"{self.subject}: no answer to QMP {command}; is the machine frozen?") from None
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"{self.subject}: QMP {command}: {answer['error']['desc']}")

    def wait_status(self, command: str, wanted: str, failed: str, timeout: float) -> None:
        """Wait until a query command reports the wanted status; timeout in seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            answer = self.execute(command)
            status = answer.get("status")
            if status == wanted:
                return
            if status == failed:
                raise LabError(f"{self.subject}: {command}: {answer.get('error-desc', failed)}")
            time.sleep(0.02)
        raise LabError(f"{self.subject}: {command} did not reach {wanted!r} within {timeout:g} s")

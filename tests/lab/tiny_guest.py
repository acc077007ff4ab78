# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of one boot sector: counts on the serial port, and on its disk.

It needs no operating system, so it starts at once also where KVM is emulated. Each number, eight decimal digits and a
line end, is first written to the second sector of the disk and then printed; after a restart it goes on from there.
"""

from __future__ import annotations

SECTOR = 512
DISK_SIZE = 1 << 20

CODE = bytes.fromhex(
    "fc"  # cld
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "8ec0"  # mov es, ax
    "8ed0"  # mov ss, ax
    "bc007c"  # mov sp, 0x7c00
    "52"  # push dx            ; the boot drive, kept on the stack
    "fb"  # sti
    "b80102"  # mov ax, 0x0201     ; read 1 sector
    "e84a00"  # call disk
    "bf0080"  # mov di, 0x8000
    "803d30"  # cmp byte [di], '0' ; a number from an earlier run?
    "7205"  # jb fresh
    "803d39"  # cmp byte [di], '9'
    "760c"  # jbe next
    # fresh:
    "b83030"  # mov ax, '00'
    "b90400"  # mov cx, 4
    "f3ab"  # rep stosw
    "b80d0a"  # mov ax, 0x0a0d     ; CR LF
    "ab"  # stosw
    # next:          count up in decimal digits
    "bf0780"  # mov di, 0x8007
    # digit:
    "fe05"  # inc byte [di]
    "803d3a"  # cmp byte [di], '9' + 1
    "7506"  # jne write
    "c60530"  # mov byte [di], '0'
    "4f"  # dec di
    "ebf3"  # jmp digit
    # write:
    "b80103"  # mov ax, 0x0301     ; write 1 sector
    "e81b00"  # call disk
    "72f8"  # jc write           ; again, until it is durable
    "be0080"  # mov si, 0x8000
    "b90a00"  # mov cx, 10
    # print:
    "bafd03"  # mov dx, 0x3fd      ; line status of the serial port
    # ready:
    "ec"  # in al, dx
    "a820"  # test al, 0x20
    "74fb"  # jz ready
    "baf803"  # mov dx, 0x3f8
    "ac"  # lodsb
    "ee"  # out dx, al
    "e2f1"  # loop print
    "f4"  # hlt                ; two ticks of the clock: 0.11 s
    "f4"  # hlt
    "ebcf"  # jmp next
    # disk:          ax: what to do with the second sector
    "5d"  # pop bp
    "5a"  # pop dx
    "52"  # push dx
    "55"  # push bp
    "b600"  # mov dh, 0          ; head 0
    "b90200"  # mov cx, 2          ; cylinder 0, sector 2
    "bb0080"  # mov bx, 0x8000
    "cd13"  # int 0x13
    "c3"  # ret
)


def disk() -> bytes:
    """The whole disk, ready to boot."""
    sector = CODE.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"
    return sector.ljust(DISK_SIZE, b"\0")


def count(sector: bytes) -> int:
    """The last number that the guest made durable, from the disk's second sector; 0 if none."""
    digits = sector[:8]
    return int(digits) if digits.isdigit() else 0

"""Huge pages for a process that trains.

A step reads and writes some ten thousand rows, scattered over tables of gigabytes. With pages of 4 KB nearly every row
is on a page that the processor has to look up first; with 2 MB it seldom is, and the buffers of a step come without
thousands of page faults. glibc's malloc asks the kernel for such pages when it is told to (2.35 and later), which it
reads once, before a program begins. Where the kernel gives none, or malloc is another one, nothing changes.
"""

import os
import sys

VARIABLE, NAME = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def start_with_huge_pages() -> None:
    """Start this process anew, under the same number, with malloc asking for huge pages.

    Returns when it was started so, or with another choice of the user's (0), or not on Linux.
    """
    tunables = os.environ.get(VARIABLE, "")
    if sys.platform != "linux" or NAME in tunables:
        return
    tunables = ":".join(filter(None, (tunables, f"{NAME}=1")))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: tunables})

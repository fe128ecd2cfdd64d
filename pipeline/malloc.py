"""glibc's malloc as a process that trains needs it.

Huge pages: a step reads and writes some ten thousand rows, scattered over tables of gigabytes. With pages of 4 KB
nearly every row is on a page that the processor has to look up first; with 2 MB it seldom is.

One arena: by default each thread takes its buffers from one of its own, which gives them back to the system as soon as
they are free. A step's buffers then come with more than a thousand page faults, each of them a page to be cleared.

malloc (2.35 and later) reads both once, before a program begins. Where the kernel has no huge pages to give, or malloc
is another one, nothing changes.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
CHOSEN = {"glibc.malloc.hugetlb": "1", "glibc.malloc.arena_max": "1"}


def start_with_chosen_malloc() -> None:
    """Start this process anew, under the same number, with malloc as chosen above.

    Returns when it was started so, or all was chosen by the user, or not on Linux.
    """
    tunables = os.environ.get(VARIABLE, "")
    missing = [f"{name}={value}" for name, value in CHOSEN.items() if name not in tunables]
    if sys.platform != "linux" or not missing:
        return
    tunables = ":".join(filter(None, (tunables, *missing)))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: tunables})

"""Keep freed memory inside a worker process."""

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to reuse large freed blocks instead of returning them to the system.

    By default every temporary of more than 128 kB to 32 MB is mapped and unmapped by the kernel, and each of its pages
    faults when first written. The tensors of a study have that size; a cell of ``rates`` with n = 4,000 ran 2.5 times
    faster without the faults. The process then holds the largest amount it ever used.

    Returns
    -------
    bool
        Whether the setting took effect; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**26}
    taken = [mallopt(name, value) for name, value in settings.items()]
    return all(taken)

"""Advisory locks of files, which the kernel frees when their holder dies."""

import fcntl


def try_lock(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file without waiting; False if another process holds it. Raises OSError."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

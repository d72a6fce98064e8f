"""Worker processes that never outlive the process that started them, even when it is killed."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing import connection


def exit_with_parent(cleanup: Callable[[], object] = lambda: None) -> None:
    """End this process, made by `multiprocessing`, after `cleanup()` as soon as its parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        cleanup()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

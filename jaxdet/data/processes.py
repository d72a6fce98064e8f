"""Helper processes that never outlive the one that started them, not even when that one is killed."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing import connection


def exit_with_parent(cleanup: Callable[[], object] = lambda: None) -> None:
    """Called in a process made by `multiprocessing`: end at once, after `cleanup()`, when the parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch():
        connection.wait([parent.sentinel])
        cleanup()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

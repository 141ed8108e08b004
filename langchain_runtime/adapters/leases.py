"""Keeps the leases of this process alive while calls are in flight."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
import weakref
from itertools import count
from typing import Final

from langchain_runtime.contracts.errors import LedgerUnavailableError
from langchain_runtime.contracts.ledger import Ledger

LEASE_SECONDS: Final = 60.0
"""How long a hold outlives a process that dies; a third of it passes between renewals."""

_log = logging.getLogger(__name__)


class LeaseKeeper:
    """This process's holder in one ledger, and the heartbeat of its leases.

    The heartbeat is a daemon thread that exists only while something is in flight, and for at most one interval after.

    Attributes:
        holder: Name under which this process holds money.
    """

    def __init__(self, ledger: Ledger, *, lease_seconds: float = LEASE_SECONDS) -> None:
        unique = uuid.uuid4().hex
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{unique[:8]}"
        self._id_prefix = unique
        self._numbers = count(1)
        # Weak: the keeper is kept for as long as its ledger lives, and must not be the reason that it does.
        self._ledger = weakref.ref(ledger)
        self._lock = threading.Lock()
        self._in_flight = 0
        self._lease_seconds = lease_seconds
        self._thread: threading.Thread | None = None

    def new_id(self) -> str:
        """An id for a hold that no other process and no other ledger gives out."""
        return f"{self._id_prefix}{next(self._numbers):x}"

    def start(self) -> None:
        """Something is in flight from now on, until ``stop`` is called as often."""
        with self._lock:
            self._in_flight += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="langchain-runtime-leases", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """One thing less is in flight."""
        with self._lock:
            self._in_flight -= 1

    def _beat(self) -> None:
        while True:
            time.sleep(self._lease_seconds / 3)
            with self._lock:
                ledger = self._ledger()
                if self._in_flight == 0 or ledger is None:
                    self._thread = None
                    return
            try:
                ledger.renew(self.holder, self._lease_seconds)
            except LedgerUnavailableError as error:
                _log.warning("the leases of %s could not be renewed and may run out: %s", self.holder, error)
            del ledger


_keepers: weakref.WeakKeyDictionary[Ledger, tuple[int, LeaseKeeper]] = weakref.WeakKeyDictionary()
_keepers_lock = threading.Lock()


def lease_keeper(ledger: Ledger) -> LeaseKeeper:
    """The keeper of ``ledger``'s leases in this process; a forked child has its own."""
    found = _keepers.get(ledger)
    if found is not None and found[0] == os.getpid():
        return found[1]
    with _keepers_lock:
        found = _keepers.get(ledger)
        if found is None or found[0] != os.getpid():
            found = _keepers[ledger] = (os.getpid(), LeaseKeeper(ledger))
        return found[1]

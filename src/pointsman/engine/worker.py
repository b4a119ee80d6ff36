"""The worker: the one thread that owns the model, and its queue."""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from pointsman.engine.backend import Backend
from pointsman.engine.request import Request, failing
from pointsman.errors import EngineClosedError, QueueFullError

T = TypeVar("T")


class Worker:
    """Runs a backend on a separate thread; callers queue.

    Args:
        max_waiting: maximum number of waiting requests.
        check: raises if a request can no longer be answered because its adapter was removed.
    """

    def __init__(
        self, backend: Backend, max_waiting: int, check: Callable[[Request], None]
    ) -> None:
        self._backend, self._max_waiting, self._check = backend, max_waiting, check
        self._lock = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._waiting: deque[Request] = deque()
        self._taken: list[Request] = []
        """Requests taken from the queue and not yet running"""
        self._begun: list[tuple[Callable[[], Any], Future[Any]]] = []
        """Jobs taken from the queue and not yet finished"""
        self._is_closed = False
        self._pid = os.getpid()
        self.thread = threading.Thread(target=self._work, name="pointsman-model", daemon=True)
        self.thread.start()
        # A thread inside the model at interpreter shutdown would crash the process.
        atexit.register(self.close)

    def enqueue(self, requests: Sequence[Request], *, block: bool = False) -> None:
        """Queues requests; they are admitted together if there is room.

        Args:
            block: wait for a place in the queue.

        Raises:
            QueueFullError: without ``block``, more than ``max_waiting`` requests would wait.
            EngineClosedError: the worker has ended.
        """
        self.check_open()
        with self._lock:
            if block:
                self._lock.wait_for(lambda: self._is_closed or self._has_place(len(requests)))
            self.check_open(0 if block else len(requests))
            self._waiting.extend(requests)
            self._lock.notify_all()

    def own(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on the model's thread, between two steps. Raises ``EngineClosedError``."""
        self.check_open()
        future: Future[T] = Future()
        with self._lock:
            self.check_open()
            self._jobs.append((work, future))
            self._lock.notify_all()
        return future.result()

    def close(self) -> None:
        """Lets queued requests finish and ends the thread."""
        if os.getpid() != self._pid:  # the thread and the lock belong to the parent
            return
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        self.thread.join()
        atexit.unregister(self.close)

    def _has_place(self, number: int) -> bool:
        """Whether this many more may wait; a batch larger than the queue may wait alone."""
        return not self._waiting or len(self._waiting) + number <= self._max_waiting

    def check_open(self, number: int = 0) -> None:
        """Raises ``EngineClosedError``, or ``QueueFullError`` if this many more cannot wait."""
        if os.getpid() != self._pid:
            raise EngineClosedError(
                "the engine belongs to a parent process, and a fork has no thread of it; make an "
                "engine in this process"
            )
        if self._is_closed:
            raise EngineClosedError("the engine is closed; make a new one")
        if number and not self._has_place(number):
            raise QueueFullError(
                f"{len(self._waiting)} requests are waiting, max_waiting is {self._max_waiting}; "
                "try again later"
            )

    # All below runs on the model's thread.

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # even failing the requests failed; none may wait for ever
            with self._lock:
                self._is_closed = True
                for _, future in (*self._begun, *self._jobs):
                    if not future.done():
                        future.set_exception(error)
                for request in (*self._backend.at_work, *self._taken, *self._waiting):
                    request.feed.fail(error)
                self._waiting.clear()
                self._lock.notify_all()
            raise

    @torch.inference_mode()
    def _serve(self) -> None:
        while self._has_work():
            self._run_jobs()
            self._take()
            waiting = self._backend.run(self._taken)
            with self._lock:
                self._waiting.extendleft(reversed(waiting))
                self._taken = []
                self._lock.notify_all()

    def _has_work(self) -> bool:
        """Waits for work; False once the worker is closed and everything is done."""
        with self._lock:
            self._lock.wait_for(lambda: self._is_busy() or self._is_closed)
            return self._is_busy()

    def _is_busy(self) -> bool:
        return bool(self._jobs or self._waiting or self._backend.at_work)

    def _run_jobs(self) -> None:
        with self._lock:
            self._begun = list(self._jobs)
            self._jobs.clear()
        if self._begun:
            self._backend.rest()
        for work, future in self._begun:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    def _take(self) -> None:
        """Takes as many waiting requests as there is room for."""
        behind: list[Request] = []
        with self._lock:
            while self._waiting and len(self._taken) < self._backend.room:
                request = self._waiting[0]
                if request.session and request.session in {r.session for r in self._taken}:
                    behind.append(request)  # what its session holds is decided in this round
                elif self._is_to_begin(request):
                    self._taken.append(request)
                self._waiting.popleft()
            self._waiting.extendleft(reversed(behind))
            self._lock.notify_all()

    def _is_to_begin(self, request: Request) -> bool:
        """Whether a request is to be answered; otherwise it is ended."""
        with failing([request]):
            self._check(request)
            if not request.feed.is_cancelled:
                return True
            request.finish("", "cancelled")
        return False

"""The worker: the one thread that owns the model, and its queue."""

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch

from pointsman.engine.backend import Backend
from pointsman.engine.request import Request, failing
from pointsman.errors import EngineClosedError, QueueFullError
from pointsman.models.cpu_kernels import threads_beside

T = TypeVar("T")
_PREPARING = 4
"""Largest number of threads that prepare requests; more would keep the model's from Python"""
_SWITCH = 5e-4
"""Seconds after which a thread in Python lets another one in. By itself Python waits 5 ms, and so
would the model's thread, after each call to the device, while requests are prepared."""


@dataclass(eq=False)
class Job:
    """Work that needs the model and is no request."""

    work: Callable[[], Any]
    session: str | None
    """Requests of this session that came before are decided first"""
    future: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        try:
            self.future.set_result(self.work())
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Worker:
    """Runs a backend on a separate thread; callers queue.

    Requests are prepared on further threads, so that no picture keeps a caller or the model
    waiting. They keep their order in the queue.

    Args:
        most: maximum number of requests, at work and waiting.
        check: raises if a request can no longer be answered because its adapter was removed.
    """

    def __init__(self, backend: Backend, most: int, check: Callable[[Request], None]) -> None:
        self._backend, self._most, self._check = backend, most, check
        self._lock = threading.Condition()
        self._jobs: list[Job] = []
        """Jobs to be run before the next step"""
        self._waiting: deque[Request | Job] = deque()
        """Requests, and jobs whose turn in their session has not come"""
        self._turns = 0
        """Jobs that wait for their turn"""
        self._taken: list[Request] = []
        """Requests taken from the queue and not yet running"""
        self._begun: list[Job] = []
        """Jobs taken from the queue and not yet finished"""
        self._is_closed = False
        self._pid = os.getpid()
        self._preparing = ThreadPoolExecutor(threads_beside(_PREPARING), "pointsman-prepare")
        sys.setswitchinterval(min(_SWITCH, sys.getswitchinterval()))
        self.thread = threading.Thread(target=self._work, name="pointsman-model", daemon=True)
        self.thread.start()
        # A thread inside the model at interpreter shutdown would crash the process.
        atexit.register(self.close)

    @property
    def load(self) -> tuple[list[Request], list[Request]]:
        """Requests that are being answered, and those that wait."""
        with self._lock:
            waiting = [each for each in self._waiting if isinstance(each, Request)]
            at_work = list(self._backend.at_work)
            return at_work, [*(r for r in self._taken if r not in at_work), *waiting]

    def enqueue(self, requests: Sequence[Request], *, block: bool = False) -> None:
        """Queues requests, and has them prepared.

        Args:
            block: wait for a place in the queue.

        Raises:
            QueueFullError: without ``block``, there would be more than ``most`` requests.
            EngineClosedError: the worker has ended.
        """
        self.check_open()
        with self._lock:
            if block:
                self._lock.wait_for(lambda: self._is_closed or self._has_place(len(requests)))
            self.check_open(0 if block else len(requests))
            for request in requests:
                request.feed.on_cancel = partial(self._withdraw, request)
                request.feed.times.queued = time.time_ns()
            self._waiting.extend(requests)
            for request in requests:
                self._preparing.submit(self._prepare, request)

    def _prepare(self, request: Request) -> None:
        """Prepares a request, on a thread for that. One that cannot be answered is ended."""
        with failing([request]):
            try:
                if not request.feed.is_cancelled:
                    self._backend.prepare(request)
            except Exception:  # first: its caller may come again as soon as it has failed
                self._forget(request)
                raise
            request.feed.prompt_tokens = len(request.ids)
        with self._lock:
            request.is_prepared = True
            self._lock.notify_all()

    def _forget(self, request: Request) -> None:
        """Removes a request from the queue, if it is there."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
            self._lock.notify_all()

    def aside(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on a thread that prepares requests.

        Raises:
            EngineClosedError: the worker has ended.
        """
        self.check_open()
        try:
            future = self._preparing.submit(work)
        except RuntimeError:  # closed since
            self.check_open()
            raise
        return future.result()

    def own(self, work: Callable[[], T], session: str | None = None) -> T:
        """Runs ``work`` on the model's thread, between two steps.

        Args:
            session: work that decides for this session waits for what came before.

        Raises:
            EngineClosedError: the worker has ended.
        """
        self.check_open()
        job = Job(work, session)
        with self._lock:
            self.check_open()
            before = (*self._taken, *self._waiting, *self._undecided()) if session else ()
            is_behind = any(other.session == session for other in before)
            (self._waiting if is_behind else self._jobs).append(job)
            self._turns += is_behind
            self._lock.notify_all()
        result: T = job.future.result()
        return result

    def _undecided(self) -> list[Request]:
        """Requests whose prompts are being read."""
        return [request for request in self._backend.at_work if request.routed]

    def close(self) -> None:
        """Lets queued requests finish and ends the thread."""
        if os.getpid() != self._pid:  # the thread and the lock belong to the parent
            return
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        self.thread.join()
        self._preparing.shutdown()
        atexit.unregister(self.close)

    def _has_place(self, number: int) -> bool:
        """Whether this many more may wait; a batch larger than the queue may wait alone."""
        return not self._waiting or self._here() + number <= self._most

    def _here(self) -> int:
        """Requests and jobs, at work and waiting."""
        at_work = self._backend.at_work
        return len({*at_work, *self._taken}) + len(self._waiting)

    @property
    def is_open(self) -> bool:
        return not self._is_closed and self.thread.is_alive()

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
                f"{self._here()} requests are here, and slots and max_waiting allow "
                f"{self._most}; try again later"
            )

    def _withdraw(self, request: Request) -> None:
        """Ends a cancelled request if it still waits."""
        with self._lock:
            if request not in self._waiting:
                return
            self._waiting.remove(request)
            self._lock.notify_all()
        with failing([request]):
            request.finish("", "cancelled")

    # All below runs on the model's thread.

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # even failing the requests failed; none may wait for ever
            with self._lock:
                self._is_closed = True
                waiting = (*self._begun, *self._jobs, *self._taken, *self._waiting)
                self._waiting.clear()
                self._lock.notify_all()
            for each in (*self._backend.at_work, *waiting):
                (each if isinstance(each, Job) else each.feed).fail(error)
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
            for request in waiting:
                if request.feed.is_cancelled:  # while it was taken
                    self._withdraw(request)

    def _has_work(self) -> bool:
        """Waits for work; False once the worker is closed and everything is done."""
        with self._lock:
            self._lock.wait_for(lambda: self._can_work() or self._is_over())
            return self._can_work()

    def _is_over(self) -> bool:
        return self._is_closed and not self._waiting

    def _can_work(self) -> bool:
        """Whether there is anything to do that waits for no preparation."""
        if self._jobs or self._backend.at_work:
            return True
        behind: set[str] = set()
        """Sessions whose next request is being prepared"""
        for each in self._waiting:
            if each.session is None or each.session not in behind:
                if isinstance(each, Job) or each.is_prepared:
                    return True
                behind |= {each.session} if each.session else set()
        return False

    def _run_jobs(self) -> None:
        with self._lock:
            self._begun, self._jobs = self._jobs, []
        if self._begun:
            self._backend.rest()
        for job in self._begun:
            job.run()
        self._begun = []

    def _take(self) -> None:
        """Takes waiting requests while there is room, and jobs whose turn has come."""
        with self._lock:
            if (room := self._backend.room) or self._turns:
                self._sort(room)
                self._lock.notify_all()
        self._taken = [request for request in self._taken if self._is_to_begin(request)]

    def _sort(self, room: int) -> None:
        """Splits the queue into what is taken, what is run next, and what keeps waiting."""
        taken: list[Request] = []
        behind = deque[Request | Job]()
        sessions = {each.session for each in self._undecided() if each.session}
        """Sessions for which something is decided first"""
        queue = iter(self._waiting)
        for each in queue:
            is_first = each.session is None or each.session not in sessions
            if each.session is not None:
                sessions.add(each.session)
            if is_first and isinstance(each, Job):
                self._jobs.append(each)
                self._turns -= 1
            elif is_first and isinstance(each, Request) and each.is_prepared and len(taken) < room:
                taken.append(each)
            else:
                behind.append(each)
            if len(taken) >= room and not self._turns:
                break
        behind.extend(queue)
        self._taken, self._waiting = taken, behind

    def _is_to_begin(self, request: Request) -> bool:
        """Whether a request is to be answered; otherwise it is ended."""
        with failing([request]):
            self._check(request)
            if not request.feed.is_cancelled:
                if not request.feed.is_routed:  # a decided one was read before
                    request.feed.times.taken = time.time_ns()
                return not request.feed.is_done
            request.finish("", "cancelled")
        return False

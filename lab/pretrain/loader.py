"""Chunks as tensors on the device, copied ahead while the device computes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pointsman.errors import PointsmanError

from .feed import Chunk, Feed

_AHEAD = 4


@dataclass(frozen=True)
class Loaded:
    """One chunk on the device; see ``feed.Chunk`` for the tensors."""

    index: int
    size: tuple[int, int]
    canvas: tuple[int, int]
    tensors: dict[str, Tensor]

    @property
    def count(self) -> int:
        return len(self.tensors["ids"])


def load_chunks(feed: Feed, device: torch.device) -> Generator[Loaded]:
    """Chunks until closed. A thread copies ahead where there is a device to keep busy."""
    if device.type == "cuda":
        yield from _copied_ahead(feed, device)
    while True:
        yield _loaded(feed.take(), feed, device)


def _loaded(chunk: Chunk, feed: Feed, device: torch.device) -> Loaded:
    # Always a copy, since the slot is drawn into again once it is released.
    tensors = {
        name: torch.from_numpy(array).to(device, copy=True) for name, array in chunk.arrays.items()
    }
    loaded = Loaded(chunk.index, chunk.size, chunk.canvas, tensors)
    feed.release(chunk)
    return loaded


def _copied_ahead(feed: Feed, device: torch.device) -> Iterator[Loaded]:
    ready: queue.Queue[Loaded | PointsmanError] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def hand_over(item: Loaded | PointsmanError) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.5)
                return

    def copy() -> None:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        try:
            while not stopped.is_set():
                with torch.cuda.stream(stream):
                    loaded = _loaded(feed.take(), feed, device)
                stream.synchronize()
                hand_over(loaded)
        except PointsmanError as error:
            hand_over(error)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        while True:
            loaded = ready.get()
            if isinstance(loaded, PointsmanError):
                raise loaded
            for tensor in loaded.tensors.values():
                # Made on another stream: the allocator must not reuse it too early.
                tensor.record_stream(torch.cuda.current_stream(device))
            yield loaded
    finally:
        stopped.set()
        thread.join(10)

"""Draws screens in worker processes, which hand them over through shared memory.

A chunk is some screens of one canvas size with a row of questions each, laid out in one slot of a
mapped file: what goes through a queue is only the number of the slot. Each chunk is drawn from its
own seed, whichever worker draws it.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import queue
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.screens import STRATA
from lab.screens.scene import draw_scene
from lab.screens.widget import ADAPTERS
from pointsman.errors import ConfigError, PointsmanError

from .config import SHAPES, ModelShape, TrainConfig
from .corpus import Asker, View
from .layout import Layout, layout_of, make_layout
from .packing import PADDING, Packer
from .sheets import WHAT, draw_sheet
from .tokenizer import load_tokenizer

_SCENES = (
    *((adapter, stratum) for adapter in ADAPTERS for stratum in ("plain", STRATA[2], STRATA[2])),
    *(("calendar", "plain"),) * 3,
    *((None, STRATA[3]),) * 4,
)
"""Demo screens: one widget, two of them (the hardest), or another page. Calendars have most to be
asked of."""


@dataclass(frozen=True)
class Chunk:
    """N screens of one size with T tokens each; views into shared memory until released."""

    index: int
    size: tuple[int, int]
    """Width and height as drawn"""
    shape: ModelShape
    arrays: dict[str, NDArray[Any]]
    """pixels (N, height, width, 3); ids, segments, weights, tasks (N, T); view (N, 4): scale and
    shift, x and y; characters (N, M, 3)"""
    slot: int | None = None

    @property
    def canvas(self) -> tuple[int, int]:
        """Width and height that the model sees."""
        return self.shape.canvas(self.size)


def draw(
    rng: random.Random, size: tuple[int, int], sheets: float, fonts: Sequence[Path] = ()
) -> Layout:
    """One screen: with the probability ``sheets`` random elements, else a demo screen."""
    if rng.random() >= sheets:
        adapter, stratum = rng.choice(_SCENES)
        try:
            return layout_of(draw_scene(rng, adapter, stratum, size, fonts))
        except ConfigError:  # no room for two widgets
            pass
    canvas = draw_sheet(rng, size, fonts)
    return make_layout(canvas.image, canvas.marks, WHAT)


def draw_size(rng: random.Random, settings: TrainConfig) -> tuple[int, int]:
    """Any size: more often of a small window, as demo screens have them; some stand upright."""
    least, most, low, high = settings.sizes
    if rng.random() < 0.6:
        most, high = least + (most - least) * 2 // 5, low + (high - low) // 2
    size = rng.randint(least, most), rng.randint(low, high)
    return size if rng.random() < 0.75 else size[::-1]


def screens_of(settings: TrainConfig, size: tuple[int, int]) -> int:
    """How many screens of a size make one chunk."""
    least, _ = SHAPES[settings.shape].pixels
    return max(1, settings.chunk_pixels // max(size[0] * size[1], least))


def draw_view(rng: random.Random, size: tuple[int, int]) -> View:
    """Half of the screens stay as they are; the others are scaled and shifted."""
    if rng.random() < 0.5:
        return View(size)
    low, high = rng.choice(((0.7, 1.0), (0.72, 1.4), (0.9, 1.1)))
    scale = rng.uniform(low, high)
    scales = (scale, scale * rng.uniform(0.94, 1.06))
    # A larger screen is cut off anywhere, a smaller one lies anywhere.
    shifts = tuple(rng.uniform(min(0.0, 1 - s), max(0.0, 1 - s)) for s in scales)
    return View(size, scales, (shifts[0], shifts[1]))


class Artist:
    """Draws chunks, in this process."""

    def __init__(self, settings: TrainConfig) -> None:
        self._settings = settings
        self._packer = Packer(load_tokenizer(), settings.tokens)

    def fill(self, buffer: Any, index: int) -> Chunk:
        """Draws the chunk of this index into a slot's memory."""
        settings = self._settings
        rng = random.Random(f"{settings.seed}/train/{index}")
        size = draw_size(rng, settings)
        count = screens_of(settings, size)
        arrays = arrays_in(buffer, settings, size, count)
        chunk = Chunk(index, size, SHAPES[settings.shape], arrays)
        for row in range(count):
            self._draw_one(random.Random(f"{settings.seed}/train/{index}/{row}"), chunk, row)
        return chunk

    def _draw_one(self, rng: random.Random, chunk: Chunk, row: int) -> None:
        arrays, settings = chunk.arrays, self._settings
        layout = draw(rng, chunk.size, settings.sheets, settings.fonts)
        view = draw_view(rng, chunk.size)
        packed = self._packer.pack(rng, Asker(rng, layout, view))
        arrays["pixels"][row] = np.asarray(layout.image)
        arrays["view"][row] = (*view.scale, *view.shift)
        for name in ("ids", "segments", "weights", "tasks"):
            arrays[name][row] = getattr(packed, name)
        arrays["characters"][row] = PADDING
        known = layout.characters[: settings.most_characters]
        arrays["characters"][row, : len(known)] = known


def _shapes(
    settings: TrainConfig, size: tuple[int, int], count: int
) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    row = (count, settings.tokens)
    return {
        "pixels": ((count, size[1], size[0], 3), np.uint8),
        "view": ((count, 4), np.float32),
        "characters": ((count, settings.most_characters, 3), np.float32),
        "ids": (row, np.int16),
        "segments": (row, np.int16),
        "weights": (row, np.float16),
        "tasks": (row, np.int16),
    }


def arrays_in(
    buffer: Any, settings: TrainConfig, size: tuple[int, int], count: int
) -> dict[str, NDArray[Any]]:
    """The arrays of a chunk, one after the other in a buffer of ``slot_bytes``."""
    arrays, start = {}, 0
    for name, (shape, kind) in _shapes(settings, size, count).items():
        length = int(np.prod(shape)) * np.dtype(kind).itemsize
        arrays[name] = np.frombuffer(buffer, kind, int(np.prod(shape)), start).reshape(shape)
        start += -(-length // 64) * 64
    return arrays


def slot_bytes(settings: TrainConfig) -> int:
    """Room for the largest chunk: one of the smallest screens, or a single largest one."""
    least, most, low, high = settings.sizes
    pixels = max(settings.chunk_pixels, most * high)
    count = screens_of(settings, (least, low))
    shapes = _shapes(settings, (1, 1), count)
    rest = sum(
        int(np.prod(shape)) * np.dtype(kind).itemsize + 64 for shape, kind in shapes.values()
    )
    return -(-(pixels * 3 + rest) // mmap.PAGESIZE) * mmap.PAGESIZE


class Feed:
    """Chunks without end, drawn ahead by worker processes; with none of them, in this process.

    Use as a context manager: leaving it ends the workers. Of ``ranks`` feeds, each draws the
    chunks that none of the others draws.
    """

    def __init__(
        self, settings: TrainConfig, first: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        self._settings = settings
        at_once = max(1, settings.workers)
        first, self._stride = first + rank * at_once, ranks * at_once
        self._next = first
        self._workers: list[Any] = []
        if not settings.workers:
            self._artist = Artist(settings)
            self._memory: Any = bytearray(slot_bytes(settings))
            return
        size = slot_bytes(settings) * settings.slots
        context = multiprocessing.get_context("spawn")
        self._free: Any = context.Queue()
        self._full: Any = context.Queue()
        place = _memory_folder(size * ranks)
        descriptor, name = tempfile.mkstemp(dir=place, prefix="pointsman-feed-")
        self._file = Path(name)
        os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
        self._opening = settings.workers
        for slot in range(settings.slots):
            self._free.put(slot)
        for number in range(settings.workers):
            arguments = (settings, name, first + number, self._stride, self._free, self._full)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            self._workers.append(worker)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(5)
        if self._workers:
            for channel in (self._free, self._full):
                channel.cancel_join_thread()
                channel.close()
            self._file.unlink(missing_ok=True)

    def take(self) -> Chunk:
        """The next chunk. Give it back with ``release`` once its arrays are copied."""
        if not self._workers:
            chunk = self._artist.fill(self._memory, self._next)
            self._next += self._stride
            return chunk
        while True:
            try:
                message = self._full.get(timeout=5)
                if message is not None:
                    slot, index, size, count = message
                    break
                self._opening -= 1
                if not self._opening:
                    # Mapped by all who need it: nothing is left behind, however this ends.
                    self._file.unlink()
            except queue.Empty:
                if not all(worker.is_alive() for worker in self._workers):
                    raise PointsmanError(
                        "a process that draws screens ended; its error is printed above"
                    ) from None
        return _chunk_at(self._memory, self._settings, slot, index, size, count)

    def release(self, chunk: Chunk) -> None:
        if chunk.slot is not None:
            self._free.put(chunk.slot)


def _chunk_at(
    memory: Any, settings: TrainConfig, slot: int, index: int, size: tuple[int, int], count: int
) -> Chunk:
    room = slot_bytes(settings)
    view = memoryview(memory)[slot * room : (slot + 1) * room]
    shape = SHAPES[settings.shape]
    return Chunk(index, size, shape, arrays_in(view, settings, size, count), slot)


def _work(settings: TrainConfig, name: str, first: int, stride: int, free: Any, full: Any) -> None:
    """A worker: every ``stride``-th chunk from ``first`` on, until its parent is gone."""
    parent = os.getppid()
    with Path(name).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    full.put(None)
    artist, room = Artist(settings), slot_bytes(settings)
    index = first
    while os.getppid() == parent:
        try:
            slot = free.get(timeout=2)
        except queue.Empty:
            continue
        view = memoryview(memory)[slot * room : (slot + 1) * room]
        chunk = artist.fill(view, index)
        full.put((slot, index, chunk.size, len(chunk.arrays["ids"])))
        index += stride


def _memory_folder(size: int) -> str | None:
    """Where files live in memory, if there is such a place with room; None: where others do."""
    folder = Path("/dev/shm")
    # To write beyond its room would kill the process.
    if folder.is_dir() and shutil.disk_usage(folder).free > size + 2**26:
        return str(folder)
    return None

"""The decision log: what a server was asked and what its router decided, one line of JSON each.

``decisions.jsonl`` is written to; at a size it is renamed to ``decisions-000001.jsonl`` and so on,
the larger the number the newer. Pictures lie in ``pictures/``, once each, under their digest.
Lines are ASCII: JSON escapes line breaks, so that no text can look like another record.
"""

import fcntl
import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pointsman.conversation import Prompt, Turn, routed_part
from pointsman.errors import ArtefactError, ConfigError
from pointsman.files import digest_bytes, write_bytes
from pointsman.routing.decision import Decision
from pointsman.routing.route import Route

LOG = "decisions.jsonl"
PICTURES = "pictures"
MAX_BYTES = 8 * 2**20
"""Default size of a file: some 10,000 requests of one screenshot and a sentence"""
KEEP = 4
"""Default number of older files"""
_LOCK = ".lock"
_OLDER = re.compile(r"decisions-(\d{6,})\.jsonl")
_PICTURE = re.compile(r"([0-9a-f]{64})\.[a-z]+")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}
_SUFFIXES = (*_KINDS.values(), "tif")
_log = logging.getLogger(__name__)


class DecisionLog:
    """Appends decisions to the log in a folder. Thread-safe; several processes may share a folder.

    Once it is made, nothing that goes wrong reaches a request: a full disk is one warning, and
    the log goes on when there is space. A process that is killed leaves at most one torn line,
    which readers drop. Lines do not wait for the disk, so a power cut may take the last records.

    Args:
        folder: made for this user alone if it is missing: the log holds what users wrote.
        max_bytes: size at which a file is closed and a new one begun.
        keep: number of older files. A file beyond them is removed, and with it the pictures that
            no file names any more.
        pictures: whether the images themselves are kept, and not only their digests.
        router_digest: says which router decides, see ``router_digest`` of ``routing.seal``.

    Raises:
        ArtefactError: the folder cannot be written.
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = MAX_BYTES,
        keep: int = KEEP,
        pictures: bool = False,
        router_digest: str,
    ) -> None:
        if max_bytes < 1 or keep < 0:
            raise ConfigError(
                f"max_bytes {max_bytes} and keep {keep}: give at least 1 byte and 0 older files"
            )
        self.folder, self.max_bytes, self.keep = Path(folder), max_bytes, keep
        self.pictures, self.router_digest = pictures, router_digest
        self._lock = threading.Lock()
        self._lost = 0
        """Records that were not written since the last one that was"""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._alone():
                _opened(self.folder / LOG).close()
        except OSError as error:
            raise ArtefactError(
                f"{self.folder}: the decision log cannot be written ({error.strerror}); choose a "
                "folder that can be written"
            ) from None

    def write(
        self,
        *,
        request_id: str,
        model: str,
        session: str | None,
        prompt: Prompt,
        route: Route,
        plan: str,
        image_bytes: Sequence[bytes] | None,
    ) -> None:
        """Appends one decision. It never raises.

        It takes well under a millisecond, but a new picture waits for the disk: in an event loop,
        call it on a thread.

        Args:
            request_id: the name under which a correction refers to the decision.
            model: the model that the request named.
            prompt: the whole conversation; assistant turns are left out.
            image_bytes: the image files as they came, one for each image of the prompt; None if
                there are none, then digests are those of the pixels, and pictures become PNGs.
        """
        try:
            turns, images = _seen(prompt, image_bytes)
            decision = Decision(
                time=datetime.now(UTC).isoformat(),
                id=request_id,
                session=session,
                model=model,
                turns=turns,
                images=tuple(map(_digest, images)),
                route=route,
                router_digest=route.router_digest or self.router_digest,
                plan=plan,
            )
            line = json.dumps(decision.to_json()).encode() + b"\n"
            with self._lock, self._alone():
                self._append(line, dict(zip(decision.images, images, strict=True)))
                self._recovered()
        except Exception as error:  # whatever it is, the request has its answer
            self._failed(error)

    def _recovered(self) -> None:
        if self._lost:
            _log.warning("%s: written again; %d records are missing", self.folder, self._lost)
            self._lost = 0

    def _append(self, line: bytes, images: dict[str, bytes | Image.Image]) -> None:
        with _opened(self.folder / LOG) as file:
            size = file.seek(0, os.SEEK_END)
            if not size or size + len(line) <= self.max_bytes:
                self._write_to(file, line, images)
                return
        self._rotate()
        with _opened(self.folder / LOG) as file:
            self._write_to(file, line, images)

    def _write_to(
        self, file: BinaryIO, line: bytes, images: dict[str, bytes | Image.Image]
    ) -> None:
        if self.pictures:  # first, so that what a record names is there
            for digest, image in images.items():
                self._store(digest, image)
        size = file.seek(0, os.SEEK_END)
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            line = b"\n" + line  # a process was killed in its last line
        try:
            done = 0
            while done < len(line):
                done += file.write(line[done:])
        except OSError:
            with suppress(OSError):
                file.truncate(size)  # half a line of a full disk
            raise

    def _store(self, digest: str, image: bytes | Image.Image) -> None:
        if picture_of(self.folder, digest) is None:
            content = image if isinstance(image, bytes) else _png(image)
            kinds = (kind for mark, kind in _KINDS.items() if content.startswith(mark))
            name = f"{digest}.{next(kinds, 'tif')}"
            write_bytes(self.folder / PICTURES / name, content)

    def _rotate(self) -> None:
        older = _older(self.folder)
        number = older[-1][0] + 1 if older else 1
        new = self.folder / f"decisions-{number:06}.jsonl"
        (self.folder / LOG).rename(new)
        kept = [path for _, path in older] + [new]
        removed = kept[: max(0, len(kept) - self.keep)]
        for path in removed:
            path.unlink()
        if removed and (self.folder / PICTURES).is_dir():
            self._drop_pictures(kept[len(removed) :])

    def _drop_pictures(self, kept: Sequence[Path]) -> None:
        """Removes the pictures that no kept file names, wherever in it."""
        named = {digest.decode() for path in kept for digest in _DIGEST.findall(path.read_bytes())}
        for path in (self.folder / PICTURES).iterdir():
            found = _PICTURE.fullmatch(path.name)
            if found and found[1] not in named:
                path.unlink()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes out; a mount without locks keeps out none."""
        with _opened(self.folder / _LOCK) as lock:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._lost += 1
            if self._lost > 1:
                return
        _log.warning(
            "%s: a decision is not logged (%s); requests go on, and so does the log as soon as it "
            "can be written",
            self.folder,
            error,
        )


class Decisions:
    """Iterates over the decisions in a folder, the oldest first.

    ``skipped`` counts the lines that were torn or are no decision, up to where it has come.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.skipped = folder, 0

    def __iter__(self) -> Iterator[Decision]:
        self.skipped = 0
        for line in self._lines():
            try:
                yield Decision.from_json(json.loads(line))
            except (ValueError, RecursionError):
                self.skipped += bool(line.strip())

    def _lines(self) -> Iterator[bytes]:
        with ExitStack() as stack:
            newest = None
            with suppress(FileNotFoundError):  # a process was killed while it rotated
                # Opened first: a rotation in the meantime then loses nothing.
                newest = stack.enter_context((self.folder / LOG).open("rb"))
            for _, path in _older(self.folder):
                with suppress(FileNotFoundError), path.open("rb") as file:
                    if not newest or not os.path.sameopenfile(file.fileno(), newest.fileno()):
                        yield from file
            yield from newest or ()


def read_log(folder: str | Path) -> Decisions:
    """The decisions in a folder. Raises ``ArtefactError`` if there is no log in it."""
    path = Path(folder)
    if not path.is_dir() or not ((path / LOG).is_file() or _older(path)):
        raise ArtefactError(f"{folder}: holds no {LOG}; give the folder that a server logs to")
    return Decisions(path)


def picture_of(folder: Path, digest: str) -> Path | None:
    """The file of a picture in a log's folder; None if it was not kept."""
    paths = (folder / PICTURES / f"{digest}.{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _seen(
    prompt: Prompt, contents: Sequence[bytes] | None
) -> tuple[tuple[Turn, ...], tuple[bytes | Image.Image, ...]]:
    """What a router may see; images as they came or, without that, decoded."""
    images: Sequence[bytes | Image.Image] = prompt.images
    if contents is not None and len(contents) == len(images):
        images = contents
    return routed_part(prompt.turns, images, "conversation")


def _digest(image: bytes | Image.Image) -> str:
    if isinstance(image, bytes):
        return digest_bytes(image)
    return digest_bytes(b"%dx%d " % image.size + image.tobytes())


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()


def _older(folder: Path) -> list[tuple[int, Path]]:
    """The older files with their numbers, the oldest first."""
    found = ((_OLDER.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _opened(path: Path) -> BinaryIO:
    """A file to append to and to read, unbuffered: a line is written by one call."""
    return path.open("ab+", buffering=0)

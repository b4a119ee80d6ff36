"""Single mutations of files: one thing of one file is changed, or one file put where none was."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

Mutator = Callable[[Path, random.Random], str | None]
"""Changes a file and says what it did; None where this file has nothing of the kind."""


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.place,)


# Bytes


def flip_bit(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at, bit = rng.randrange(len(content)), rng.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at}"


def other_byte(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] = (content[at] + rng.randrange(1, 256)) % 256
    path.write_bytes(content)
    return f"byte {at}"


def insert_bytes(path: Path, rng: random.Random) -> str:
    content, more = path.read_bytes(), rng.randbytes(rng.choice((1, 1, 2, 8)))
    at = rng.randint(0, len(content))
    path.write_bytes(content[:at] + more + content[at:])
    return f"{len(more)} bytes into byte {at}"


def delete_bytes(path: Path, rng: random.Random) -> str:
    content, n = path.read_bytes(), rng.choice((1, 1, 2, 8))
    at = rng.randrange(len(content))
    path.write_bytes(content[:at] + content[at + n :])
    return f"{n} bytes from byte {at} on"


def truncate(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    n = rng.choice((0, 1, 7, 8, len(content) - 1, rng.randrange(len(content))))
    path.write_bytes(content[:n])
    return f"to {n} bytes"


def zero_range(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at, n = rng.randrange(len(content)), rng.choice((4, 64, 512))
    content[at : at + n] = bytes(len(content[at : at + n]))
    path.write_bytes(content)
    return f"{n} bytes from byte {at} on"


# Files


def delete_file(path: Path, rng: random.Random) -> str:
    path.unlink()
    return "gone"


def folder_instead(path: Path, rng: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return "a folder"


def neighbour_instead(path: Path, rng: random.Random) -> str:
    """Another file of the bundle under this one's name."""
    root = next(p for p in path.parents if (p / "pointsman.toml").is_file())
    files = sorted(f for f in root.rglob("*") if f.is_file() and f != path)
    same_kind = [f for f in files if f.name == path.name]
    other = rng.choice(same_kind if same_kind and rng.random() < 0.7 else files)
    shutil.copyfile(other, path)
    return f"{other.relative_to(root)}"


def pickle_instead(path: Path, rng: random.Random) -> str:
    torch.save({"state_dict": Canary(canary_of(path))}, path)
    return "a pickle under its name"


def pickle_beside(path: Path, rng: random.Random) -> str:
    names = ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin", "router.pt", "model.bin")
    name = rng.choice(names)
    torch.save({"state_dict": Canary(canary_of(path))}, path.with_name(name))
    return f"{name} beside it"


def only_pickle(path: Path, rng: random.Random) -> str | None:
    """The weights as a pickle only, as old trainers wrote them."""
    if path.suffix != ".safetensors":
        return None
    path.unlink()
    torch.save({"state_dict": Canary(canary_of(path))}, path.with_suffix(".bin"))
    return f"{path.with_suffix('.bin').name} in its place"


def canary_of(path: Path) -> Path:
    """The file that unpickling makes."""
    root = next(p for p in path.parents if (p / "pointsman.toml").is_file())
    return root.parent / "canary-was-executed"


# JSON


def _json_places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    places = [(*place, key) for key, _ in inner]
    for key, child in inner:
        places += _json_places(child, (*place, key))
    return places


def _others(value: Any, rng: random.Random) -> Any:
    """Another value, of the same kind or of another."""
    choices: list[Any] = [None, True, "", "other", [], {}, 0, -1, 1.5, [value], {"a": value}]
    if isinstance(value, bool):
        choices += [not value] * 6
    elif isinstance(value, int | float):
        choices += [value + 1, value - 1, value * 1.001, -value, value * 1000, str(value)] * 2
        choices += [float("nan"), float("inf"), 10**400, 2**63]
    elif isinstance(value, str):
        choices += [value + "x", value[:-1], value.upper(), value[::-1], f" {value}", "\ud800"] * 2
    elif isinstance(value, list):
        choices += [value[::-1], value[1:], [*value, *value[:1]], value * 1000] * 2
    return rng.choice([other for other in choices if json.dumps(other) != json.dumps(value)])


def json_value(path: Path, rng: random.Random) -> str | None:
    if path.suffix != ".json":
        return None
    content = json.loads(path.read_bytes())
    *parents, key = rng.choice(_json_places(content))
    holder = reduce(getitem, parents, content)
    old = holder[key]
    holder[key] = _others(old, rng)
    path.write_text(json.dumps(content, indent=2))
    return f"{'.'.join(map(str, (*parents, key)))}: {str(old)[:40]} -> {str(holder[key])[:40]}"


def json_key(path: Path, rng: random.Random) -> str | None:
    """A key is renamed, deleted, doubled or moved."""
    if path.suffix != ".json":
        return None
    content = json.loads(path.read_bytes())
    places = [place for place in _json_places(content) if isinstance(place[-1], str)]
    *parents, key = rng.choice(places)
    holder = reduce(getitem, parents, content)
    what = rng.choice(("rename", "delete", "double", "last", "new"))
    if what == "double":
        holder[f"{key}_2"] = holder[key]
    elif what == "new":
        holder["new"] = rng.choice((None, 1, "x", [], {}))
    else:
        value = holder.pop(key)
        if what != "delete":
            holder[key if what == "last" else f"{key}s"] = value
    path.write_text(json.dumps(content, indent=2))
    return f"{what} {'.'.join(map(str, (*parents, key)))}"


def json_layout(path: Path, rng: random.Random) -> str | None:
    """The same values, otherwise written; or what is no value at all."""
    if path.suffix != ".json":
        return None
    content = json.loads(path.read_bytes())
    what = rng.choice(("compact", "sorted", "escaped", "list", "deep", "bom", "utf-16"))
    text = {
        "compact": lambda: json.dumps(content, separators=(",", ":")),
        "sorted": lambda: json.dumps(content, sort_keys=True),
        "escaped": lambda: json.dumps(content, ensure_ascii=True),
        "list": lambda: json.dumps([content]),
        "deep": lambda: "[" * 100_000,
        "bom": lambda: "\ufeff" + json.dumps(content),
        "utf-16": lambda: json.dumps(content),
    }[what]()
    path.write_bytes(text.encode("utf-16" if what == "utf-16" else "utf-8"))
    return what


# Safetensors


def tensor_value(path: Path, rng: random.Random) -> str | None:
    """One tensor is changed, and the file written as it should be."""
    if path.suffix != ".safetensors":
        return None
    tensors = load(path.read_bytes())
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    what = rng.choice(("nudge", "scale", "nan", "zero", "noise", "half", "drop", "rename", "cut"))
    if what == "drop":
        del tensors[name]
    elif what == "rename":
        tensors[f"{name}_2"] = tensors.pop(name)
    elif what == "nudge":
        flat = tensor.reshape(-1)
        at = rng.randrange(len(flat))
        flat[at] = flat[at] * 1.01 + 1e-3
    else:
        changed = {
            "scale": lambda: tensor * 1.001,
            "nan": lambda: torch.full_like(tensor, float("nan")),
            "zero": lambda: torch.zeros_like(tensor),
            "noise": lambda: tensor + 0.1 * torch.randn(tensor.shape).to(tensor),
            "half": lambda: tensor.half(),
            "cut": lambda: tensor[:-1],
        }[what]()
        tensors[name] = changed.contiguous()
    path.write_bytes(save(tensors, {"format": "pt"}))
    return f"{what} {name}"


def header(path: Path, rng: random.Random) -> str | None:
    """One entry of the header is edited, the data left as they are."""
    if path.suffix != ".safetensors":
        return None
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    entries = json.loads(content[8 : 8 + size])
    what = rng.choice(("dtype", "shape", "offsets", "name", "metadata", "length", "swap"))
    names = sorted(set(entries) - {"__metadata__"})
    name, other = rng.choice(names), rng.choice(names)
    if what == "dtype":
        entries[name]["dtype"] = rng.choice(("F16", "BF16", "F64", "I32", "U8", "X1"))
    elif what == "shape":
        entries[name]["shape"] = rng.choice(([], entries[name]["shape"][::-1], [2**62, 4], [-1]))
    elif what == "offsets":
        begin, end = entries[name]["data_offsets"]
        entries[name]["data_offsets"] = rng.choice(([end, begin], [begin, end + 4], [0, 2**60]))
    elif what == "name":
        entries[f"{name}x"] = entries.pop(name)
    elif what == "metadata":
        entries["__metadata__"] = {"format": rng.choice(("tf", "np", "", "../x"))}
    elif what == "swap":
        entries[name], entries[other] = entries[other], entries[name]
    new = json.dumps(entries).encode()
    length = rng.choice((0, size + 8, 2**40, 2**63)) if what == "length" else len(new)
    path.write_bytes(struct.pack("<Q", length) + new + content[8 + size :])
    return f"{what} of {name}"


# TOML


def toml_line(path: Path, rng: random.Random) -> str | None:
    """A line is deleted, doubled, moved, or has another value."""
    if path.suffix != ".toml":
        return None
    lines = path.read_text().splitlines()
    at = rng.randrange(len(lines))
    what = rng.choice(("delete", "double", "move", "value", "value", "value", "key", "new"))
    if what == "delete":
        del lines[at]
    elif what == "double":
        lines.insert(at, lines[at])
    elif what == "move":
        line = lines.pop(at)
        lines.insert(rng.randint(0, len(lines)), line)
    elif what == "new":
        lines.insert(
            rng.randint(0, len(lines)),
            rng.choice(
                ("x = 1", "max_pixels = 4096", 'revision = "main"', "[other]", "# note", 'a = "b"')
            ),
        )
    elif "=" in lines[at]:
        key, _, value = lines[at].partition("=")
        paths = [line.partition("=")[2] for line in lines if "=" in line]
        if what == "key":
            key = rng.choice((f"{key.strip()}x ", "__base__ ", "base ", "calendar ", '"a.b" '))
        else:
            junk = (' ""', " 1", " []", " true", ' "/"', ' "~nobody/x"', ' "a/b"', f"{value} # x")
            value = rng.choice((*paths, *junk))
        lines[at] = f"{key}={value}"
    path.write_text("\n".join(lines) + "\n")
    return f"{what}, line {at + 1}"


MUTATORS: dict[str, tuple[Mutator, int]] = {
    "bit flipped": (flip_bit, 6),
    "byte changed": (other_byte, 6),
    "bytes inserted": (insert_bytes, 4),
    "bytes deleted": (delete_bytes, 4),
    "truncated": (truncate, 3),
    "range zeroed": (zero_range, 2),
    "file deleted": (delete_file, 1),
    "folder instead": (folder_instead, 1),
    "another file instead": (neighbour_instead, 3),
    "pickle instead": (pickle_instead, 2),
    "pickle beside": (pickle_beside, 1),
    "pickle only": (only_pickle, 2),
    "JSON value": (json_value, 14),
    "JSON key": (json_key, 8),
    "JSON layout": (json_layout, 2),
    "tensor": (tensor_value, 10),
    "safetensors header": (header, 8),
    "TOML line": (toml_line, 20),
}
"""By name, with how often each is drawn"""


def mutate(path: Path, rng: random.Random) -> tuple[str, str]:
    """Does one mutation of ``path`` that leaves something else there; its kind and what it did."""
    before = path.read_bytes()
    names, weights = list(MUTATORS), [weight for _, weight in MUTATORS.values()]
    while True:
        (kind,) = rng.choices(names, weights)
        done = MUTATORS[kind][0](path, rng)
        if done is not None and (kind == "pickle beside" or not _is(path, before)):
            return kind, done


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content

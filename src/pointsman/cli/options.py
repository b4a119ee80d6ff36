"""The options that several commands share, and the parsers of their values.

This file imports no model library, because ``pointsman --help`` loads it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from pointsman.errors import ConfigError

ADAPTER_NAMES = "--adapter-names"
FLAGS = ("--debug", "--quiet")
"""Flags that are accepted anywhere on the line, before or after the command"""


class Numbers(tuple[int, ...]):
    """Different whole numbers, ascending."""


class Names(tuple[str, ...]):
    """Names in the order in which they were given."""


class Share(NamedTuple):
    """An adapter's share of the requests."""

    name: str
    share: float


def _numbers(option: str) -> Callable[[str], Numbers]:
    def parse(value: str) -> Numbers:
        try:
            return Numbers(sorted({int(number) for number in value.split(",")}))
        except ValueError:
            raise ConfigError(f"{option} {value!r}: give whole numbers, such as 9,18,27") from None

    return parse


def _names(value: str) -> Names:
    """Names separated by commas or spaces, neither of which a name may contain."""
    return Names(re.split(r"\s*,\s*|\s+", value.strip()))


def _share(value: str) -> Share:
    name, _, share = value.partition("=")
    try:
        return Share(name, float(share))
    except ValueError:
        raise ConfigError(f"--prior {value!r}: give NAME=SHARE, such as calendar=0.7") from None


def joined(names: Iterable[Names] | None) -> list[str] | None:
    """The names of a repeated option, in order; None if it was not given."""
    return None if names is None else [name for part in names for name in part]


def gathered(arguments: Sequence[str], option: str = ADAPTER_NAMES) -> list[str]:
    """A command line on which the values of ``option`` are one word.

    ``--adapter-names a b c --out x`` becomes ``--adapter-names 'a b c' --out x``: click has no
    option that takes any number of values. The option takes all words up to the next option, so a
    positional argument goes before it, or after another option. If the first word contains a
    comma between two names, it is the whole list.
    """
    found: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        found.append(word)
        if word == "--":
            return found + rest
        if word.startswith(f"{option}="):
            rest.insert(0, word.removeprefix(f"{option}="))
            found[-1] = word = option
        if word == option:
            values = _values(rest)
            found += [" ".join(values)] if values else []
            del rest[: len(values)]
    return found


def _values(words: Sequence[str]) -> Sequence[str]:
    """The leading words that are values of one option."""
    if words and "," in words[0].rstrip(","):
        return words[:1]
    end = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:end]


def without_flags(arguments: Sequence[str]) -> tuple[list[str], set[str]]:
    """A command line without ``FLAGS``, and the flags that were on it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = {word for word in arguments[:end] if word in FLAGS}
    return [word for word in arguments[:end] if word not in flags] + list(arguments[end:]), flags


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Config = Annotated[
    Path | None,
    typer.Option(
        help="Project file. Default: pointsman.toml in the current folder, else the embedded "
        "pocket model."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="Hub id or folder of the base. Default: the project's base, else the pocket's."
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="Hub id or folder of a text encoder, whose features the router reads instead of the "
        "base's."
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, tag or branch of a checkpoint on the Hub.")
]
RouterFolder = Annotated[
    Path | None, typer.Option(help="Router folder. Default: the project's router.")
]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[IMAGE] TEXT", help="Screenshot (optional) and instruction."),
]
Requests = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help='JSONL file with one request per line: {"image": PATH, "text": TEXT}, a sample, or '
        "OpenAI messages; - reads standard input. Prints one line of JSON per request.",
    ),
]
Results = Annotated[
    Path | None, typer.Option(help="With --requests: write the results to this file.")
]
Device = Annotated[
    str | None, typer.Option(help="cuda, cuda:1, mps or cpu. Default: the best available.")
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16", "fp8"] | None,
    typer.Option(
        help="Data type of the weights; fp8: of the base's decoder. Default: bfloat16 on an "
        "accelerator, float32 on a CPU."
    ),
]
MaxPixels = Annotated[
    int | None, typer.Option(help="Scale larger images down to this many pixels.")
]
Seed = Annotated[int, typer.Option(help="Seed; the same seed gives the same bytes.")]
Plan = Annotated[
    str | None,
    typer.Option(
        help="in-pass, activated, two-pass or peft. Default: the fastest that is exact for the "
        "adapters."
    ),
]
LogDir = Annotated[Path | None, typer.Option(help="Write TensorBoard curves to this folder.")]
AdapterNames = Annotated[
    list[Names],
    typer.Option(
        ADAPTER_NAMES,
        parser=_names,
        metavar="NAME...",
        help="Adapter names in label order, separated by spaces or commas, after CHECKPOINT.",
    ),
]
OptionalAdapterNames = Annotated[
    list[Names] | None,
    typer.Option(
        ADAPTER_NAMES,
        parser=_names,
        metavar="NAME...",
        help="Adapter names in label order, separated by spaces or commas, after FEATURES. They "
        "must match the features.",
    ),
]
Layers = Annotated[
    Numbers | None,
    typer.Option(
        parser=_numbers("--layers"),
        metavar="N,N,...",
        help="Depths of the hidden states to read, such as 9,18,27. Default: 1/4, 1/2 and 3/4 of "
        "the layers of a base; 1/2, 3/4 and all layers of an encoder.",
    ),
]
TrainLayers = Annotated[
    Numbers | None,
    typer.Option(
        "--layers",
        parser=_numbers("--layers"),
        metavar="N,N,...",
        help="Depths to choose from. Default: all depths in the features.",
    ),
]
Poolings = Annotated[
    Names | None,
    typer.Option(
        "--pooling",
        parser=_names,
        metavar="NAME,...",
        help="last, mean, image-mean, first (encoders only), or several, such as last,mean. "
        "Default: last for a base, the encoder's own pooling for an encoder.",
    ),
]
Prior = Annotated[
    list[Share] | None,
    typer.Option(
        parser=_share,
        metavar="NAME=SHARE",
        help="Share of the requests that an adapter is expected to get; repeatable.",
    ),
]

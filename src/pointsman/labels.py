"""The label map: ordered adapter names, where a name's index is its label.

This is the only place that knows what label 0 means. The order is written once, in the project
file, and then only carried: a name is never sorted, looked up by similarity or defaulted.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pointsman.errors import LabelError, MismatchError
from pointsman.files import digest_json

OUT_OF_SCOPE = -1
"""Label of a sample that belongs to no adapter."""
# A name becomes a PEFT module key ("." breaks it), a model name in a URL and a folder name.
_LEGAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
BASE = "base"
"""Used in place of an adapter's name: the base alone answers."""
ROUTED = "auto"
"""Used in place of an adapter's name: the router chooses."""
FALLBACKS = (BASE, "error")
"""Besides an adapter's name: what may happen to a request when the router abstains"""
# `__base__` is PEFT's word for "no adapter".
RESERVED = frozenset({"__base__", ROUTED, *FALLBACKS})
# PEFT keeps an adapter's weights in a torch container, under the adapter's name; transformers
# adds `smart_apply` to all modules.
_CONTAINER = frozenset(
    "T_destination add_module apply bfloat16 buffers call_super_init children clear compile copy "  # noqa: SIM905
    "cpu cuda double dump_patches eval extra_repr float forward fromkeys get get_buffer "
    "get_extra_state get_parameter get_submodule half ipu items keys load_state_dict modules mtia "
    "named_buffers named_children named_modules named_parameters parameters persistent pop popitem "
    "register_backward_hook register_buffer register_forward_hook register_forward_pre_hook "
    "register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module "
    "register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ "
    "set_extra_state set_submodule setdefault share_memory smart_apply state_dict to to_empty "
    "train training type update values xpu zero_grad".split()
)


@dataclass(frozen=True)
class LabelMap:
    """Ordered, unique, legal adapter names.

    Raises:
        LabelError: there are no names, or one is illegal, reserved or a duplicate.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError("a label map needs at least one adapter name; it is empty")
        seen: dict[str, str] = {}
        for name in self.names:
            check_name(name)
            # Case-insensitive file systems would give both one folder.
            if twin := seen.get(name.lower()):
                raise LabelError(
                    f"adapter names {twin!r} and {name!r} are the same name; rename one of them"
                )
            seen[name.lower()] = name

    @classmethod
    def from_json(cls, names: Any, where: str) -> Self:
        """Validates a list read from a file. ``where`` names the file in the error."""
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise LabelError(f"{where}: the adapter names are {names!r}, not a list of strings")
        try:
            return cls(tuple(names))
        except LabelError as error:
            raise LabelError(f"{where}: {error}") from None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def name(self, label: int) -> str:
        """The adapter of a label. Raises ``LabelError`` if it is out of range."""
        if not 0 <= label < len(self.names):
            raise LabelError(
                f"label {label} is out of range: the label map {self} has labels "
                f"0 to {len(self.names) - 1}"
            )
        return self.names[label]

    def label(self, name: str) -> int:
        """The label of an adapter. Raises ``LabelError`` if it is unknown."""
        if name not in self.names:
            raise LabelError(f"unknown adapter {name!r}: the label map is {self}")
        return self.names.index(name)

    @property
    def digest(self) -> str:
        """SHA-256 over the names in order."""
        return digest_json(list(self.names))

    def extended(self, names: Sequence[str]) -> Self:
        """A label map with ``names`` appended; the old labels keep their meaning."""
        return type(self)((*self.names, *names))

    def check_same(self, other: Self, mine: str, theirs: str, hint: str) -> None:
        """Raises ``MismatchError`` unless both maps have the same names in the same order."""
        if self.names != other.names:
            raise MismatchError(f"{mine} has the labels {self}, {theirs} has {other}; {hint}")

    def __str__(self) -> str:
        return "[" + ", ".join(f"{label}={name}" for label, name in enumerate(self.names)) + "]"


def check_name(name: str) -> None:
    """Raises ``LabelError`` unless ``name`` can be an adapter's name."""
    if name in RESERVED:
        raise LabelError(f"adapter name {name!r} is reserved; choose another name")
    if name in _CONTAINER:
        raise LabelError(
            f"adapter name {name!r} is an attribute of torch's modules, so PEFT cannot hold an "
            "adapter of this name; choose another name"
        )
    if not _LEGAL.fullmatch(name):
        raise LabelError(
            f"adapter name {name!r} is not legal; use 1 to 64 letters, digits, '-' or '_', "
            "starting with a letter or digit"
        )

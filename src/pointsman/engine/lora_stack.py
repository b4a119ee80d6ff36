"""Stacked LoRA weights of all adapters: row = label, chosen per request of a batch.

For every group of projections that read the same input (q, k and v; gate and up) the adapters'
matrices are stacked as ``A (rows + 1, members * rank, d_in)`` and, for each member,
``B (rows + 1, rank, d_out)`` with the scale multiplied in. A row's matrices are contiguous, so one
gather fetches them. The last row is zero: it serves the base and requests on which the router
abstained. Smaller ranks, absent layers and absent targets are padded with zeros, which is exact.

Adapters that are more than two plain matrices per linear layer of the decoder (DoRA, biases, the
vision tower, other PEFT kinds) are left to PEFT itself; ``lora_of`` says why.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pointsman.adapters.layout import GROUPS, Key
from pointsman.adapters.weights import Lora
from pointsman.errors import ConfigError, MismatchError
from pointsman.models.base import Base
from pointsman.models.cpu_kernels import linear
from pointsman.models.fp8 import Fp8Linear, fp8_linear

UNROLLED = 32
"""Up to this rank, compilers should unroll a step's sums over it. As a reduction, a sum would be a
kernel of its own, or spoil the shape of the kernel that reads it."""


@dataclass
class RowSelection:
    """The adapter of each request in the running batch; shared by all groups of a stack."""

    rows: Tensor | None = None
    """(B,) int64 on the stack's device; None: the base alone"""
    is_step: bool = False
    """One token per request, compiled: the compiler fuses these products with the gather"""
    is_compiled: bool = False
    """The layers are compiled; a row seen as a number would cause a recompilation for each row"""
    only: int | None = None
    """The single row of all requests, if it is known without waiting for the device"""
    gathered: dict[int, tuple[Tensor, list[Tensor]]] = field(default_factory=dict)

    def choose(self, rows: Tensor | None, is_step: bool = False, is_compiled: bool = False) -> None:
        """Sets the row of each request."""
        self.rows, self.is_step, self.only = rows, is_step, None
        self.is_compiled = is_compiled or is_step
        self.gathered.clear()
        if rows is not None and self.is_compiled:
            torch._dynamo.maybe_mark_dynamic(rows, 0)
        if rows is not None and not self.is_compiled and rows.device.type == "cpu":
            first = int(rows[0])  # reading it costs nothing on the CPU
            self.only = first if bool((rows == first).all()) else None


class FusedProjections(nn.Module):
    """Projections that read the same input, fused into one product, with stacked adapter weights.

    The base's matrices are joined.

    Args:
        dtype: of the adapters' weights; the base's may be FP8.
    """

    scale: Tensor | None
    """Of the joint matrix in FP8"""

    def __init__(
        self, linears: Sequence[nn.Linear], batch: RowSelection, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.sizes = [linear.out_features for linear in linears]
        weights: list[Tensor] = [linear.weight for linear in linears]
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        self.weight = nn.Parameter(torch.cat(weights), False)
        # Qwen3-VL has either no biases or all of them.
        self.bias = nn.Parameter(torch.cat(biases), False) if biases else None
        # A base has FP8 layers alone, or none, and all of a member's rows make up whole blocks.
        scales = [linear.scale for linear in linears if isinstance(linear, Fp8Linear)]
        self.register_buffer("scale", torch.cat(scales) if scales else None)
        self.batch, self.dtype = batch, dtype
        self.table: Tensor | None = None
        """(rows + 1, all of a row's elements)"""
        self.a: Tensor
        """(rows + 1, members * rank, d_in)"""
        self.b: list[Tensor]
        """(rows + 1, rank, d_out) for each member"""
        self.waiting: tuple[Tensor, ...] = ()

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def rank(self) -> int:
        """The table's rank; adapters of smaller rank are padded with zeros."""
        return self.b[0].shape[1]

    def stack(self, rows: int, rank: int) -> None:
        """Makes room for this many adapters of at most this rank."""
        width = rank * (len(self.sizes) * self.in_features + sum(self.sizes))
        self.table = self.weight.new_zeros(rows + 1, width, dtype=self.dtype)
        self.a, self.b = self._cut(self.table, rank)
        for tensor in (self.table, self.a, *self.b):
            # Compilers would take sizes that differ between engines for sizes that change.
            torch._dynamo.mark_static(tensor)

    def write(self, row: int, member: int, a: Tensor, b: Tensor) -> None:
        """Sets one adapter's A (r, d_in) and scaled B (d_out, r) of one projection."""
        start = member * self.rank
        self.a[row, start : start + len(a)] = a.to(self.a)
        self.b[member][row, : len(a)] = b.mT.to(self.a)

    def clear(self, row: int) -> None:
        if self.table is not None:
            self.table[row] = 0

    def read(self, row: int, member: int) -> tuple[Tensor, Tensor]:
        """One adapter's A (rank, d_in) and scaled B (d_out, rank), on the host."""
        start = member * self.rank
        a, b = self.a[row, start : start + self.rank], self.b[member][row]
        # Copies on the CPU too: the row is another's next.
        return a.to("cpu", copy=True), b.mT.to("cpu", copy=True)

    def bytes(self) -> int:
        return 0 if self.table is None else self.table[0].nbytes

    def _cut(self, table: Tensor, rank: int) -> tuple[Tensor, list[Tensor]]:
        """Splits rows (n, all) into A (n, members * rank, d_in) and each B (n, rank, d_out)."""
        members = len(self.sizes)
        widths = [members * rank * self.in_features, *(rank * size for size in self.sizes)]
        a, *bs = table.split_with_sizes(widths, 1)
        shapes = zip(bs, self.sizes, strict=True)
        return (
            a.view(-1, members * rank, self.in_features),
            [b.view(-1, rank, size) for b, size in shapes],
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, T, d_in) to each member's output (B, T, d_out)."""
        if self.scale is None:
            joint = linear(x, self.weight, self.bias)
        else:
            joint = fp8_linear(x, self.weight, self.scale, self.bias)
        outputs = torch.split(joint, self.sizes, -1)
        rows, only = self.batch.rows, self.batch.only
        if self.table is None or rows is None or only == len(self.a) - 1:
            return outputs
        if self.batch.is_step:
            # Not gathered first: the compiled code reads each row's weights in place.
            parts = torch.split((x * self.a[rows]).sum(-1), self.rank, -1)
            return tuple(
                output + _combined(part, b, rows)[:, None]
                for output, part, b in zip(outputs, parts, self.b, strict=True)
            )
        if only is not None:
            parts = torch.split(linear(x, self.a[only]), self.rank, -1)
            return tuple(
                output + part @ b[only]
                for output, part, b in zip(outputs, parts, self.b, strict=True)
            )
        a, bs = self._gathered(rows)
        parts = torch.split(torch.bmm(x, a.mT), self.rank, -1)
        if self.batch.is_compiled:
            # The compiler adds in what follows; for ``baddbmm`` it would copy the output first.
            return tuple(
                output + torch.bmm(part, b)
                for output, part, b in zip(outputs, parts, bs, strict=True)
            )
        return tuple(
            torch.baddbmm(output, part, b)
            for output, part, b in zip(outputs, parts, bs, strict=True)
        )

    def _gathered(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The batch's own weights, gathered once for all of its steps."""
        assert self.table is not None
        if self.batch.is_compiled or rows.device.type != "cpu":  # compiled steps do not gather
            return self._cut(self.table[rows], self.rank)
        found = self.batch.gathered.get(id(self))
        if found is None:
            found = self.batch.gathered[id(self)] = self._cut(self.table[rows], self.rank)
        return found


def _combined(part: Tensor, b: Tensor, rows: Tensor) -> Tensor:
    """Sums part (B, rank) times the rows of b (rows + 1, rank, d_out) over the rank."""
    # Unrolled, it becomes a part of the kernel that reads the sum, see ``UNROLLED``.
    return (part[..., None] * b[rows]).sum(1)


class LeadProjection(nn.Module):
    """Replaces a group's first projection, and computes all of them."""

    def __init__(self, group: FusedProjections) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        outputs: tuple[Tensor, ...] = self.group(x)
        self.group.waiting = outputs[1:]
        return outputs[0]


class FollowerProjection(nn.Module):
    """Replaces another projection of the group, which is called after the first."""

    def __init__(self, group: FusedProjections, member: int) -> None:
        super().__init__()
        # Not a submodule: its weights belong to the first.
        self._group = (group,)
        self._place, self._is_last = member - 1, member == len(group.sizes) - 1

    def forward(self, _: Tensor) -> Tensor:
        group = self._group[0]
        output = group.waiting[self._place]
        if self._is_last:
            group.waiting = ()
        return output


class LoraStack:
    """All adapters of a base, in rows; the most recently used ones stay on the device.

    Args:
        base: a base without PEFT; its decoder's projections are replaced.
        loras: the adapters in label order.
        resident: number of adapters on the device at once; by default all of ``loras``.
        max_rank: largest rank of adapters added later; by default the largest of ``loras``.

    Raises:
        ConfigError: fewer rows than adapters are needed at once.
    """

    def __init__(
        self,
        base: Base,
        loras: Sequence[Lora],
        *,
        resident: int | None = None,
        max_rank: int | None = None,
    ) -> None:
        self.batch = RowSelection()
        self.rows = resident or max(1, len(loras))
        self.rank = max([max_rank or 1, *(lora.rank for lora in loras)])
        self._groups, self._members = _install(
            base.core.language_model.layers, self.batch, base.dtype
        )
        self._device = base.device
        self._labels: list[str | None] = []
        """Name of each label; None if the adapter was removed, and the label is free"""
        self._row: OrderedDict[str, int] = OrderedDict()
        """Resident adapters, least recently used first"""
        self._hosted: dict[str, Lora] = {}
        self._invocations: dict[str, tuple[int, ...]] = {}
        self._users = [0] * self.rows
        self.tables = 0
        """Groups with tables: grows when an adapter changes a group that none changed before"""
        self._free = list(range(self.rows))[::-1]
        self.where = torch.full((0,), self.zero, device=self._device)
        for lora in loras:
            self.add(lora)

    @property
    def zero(self) -> int:
        """The row of the base."""
        return self.rows

    @property
    def adapter_bytes(self) -> int:
        """Device memory of one adapter."""
        return sum(group.bytes() for group in self._groups)

    @property
    def widest(self) -> Tensor:
        """The largest of the base's joint matrices."""
        return max((group.weight for group in self._groups), key=lambda weight: weight.numel())

    @property
    def invocation(self) -> tuple[int, ...]:
        """Invocation tokens of its adapters; empty: they act on all tokens, or there are none."""
        return next(iter(self._invocations.values()), ())

    @property
    def resident(self) -> tuple[str, ...]:
        return tuple(self._row)

    def __contains__(self, name: object) -> bool:
        return name in self._row or name in self._hosted

    def add(self, lora: Lora) -> None:
        """Gives an adapter the first free label; others, and running requests, stay as they are.

        Raises:
            MismatchError: its shapes do not fit the base.
            ConfigError: its rank is above the stack's, or its name is taken.
        """
        if lora.name in self:
            raise ConfigError(f"adapter {lora.name!r} is already loaded; remove it first")
        if lora.rank > self.rank:
            raise ConfigError(
                f"adapter {lora.name!r} has rank {lora.rank} and the stack was made for "
                f"{self.rank}; give a larger max_rank"
            )
        self._check_shapes(lora)
        if None not in self._labels:
            self.where = torch.cat([self.where, self.where.new_tensor([self.zero])])
            self._labels.append(None)
        if self._free:
            self._load(lora, self._labels.index(None))
        else:
            self._hosted[lora.name] = lora.on_host()
        self._labels[self._labels.index(None)] = lora.name
        self._invocations[lora.name] = lora.invocation

    def remove(self, name: str) -> None:
        """Removes an adapter, and frees its label. Raises ``ConfigError`` if it is in use."""
        if name in self._row:
            if self._users[self._row[name]]:
                raise ConfigError(f"adapter {name!r} is answering requests; remove it afterwards")
            self._free_row(name)
        self._hosted.pop(name, None)
        self._labels[self._labels.index(name)] = None
        del self._invocations[name]

    def acquire(self, name: str) -> int | None:
        """An adapter's row, held for a request until ``release``; None: all rows are in use."""
        if name not in self._row:
            if not self._free:
                idle = next(
                    (other for other, row in self._row.items() if not self._users[row]), None
                )
                if idle is None:
                    return None
                self._hosted[idle] = self._read(idle)
                self._free_row(idle)
            self._load(self._hosted[name], self._labels.index(name))
            del self._hosted[name]
        self._row.move_to_end(name)
        row = self._row[name]
        self._users[row] += 1
        return row

    def changes(self, first: int, stop: int) -> bool:
        """Whether an adapter has ever changed a layer from ``first`` to before ``stop``."""
        groups = self._groups[len(GROUPS) * first : len(GROUPS) * stop]
        return any(group.table is not None for group in groups)

    def is_resident(self, name: str) -> bool:
        return name in self._row

    def row_of(self, name: str | None) -> int:
        """The row of a resident adapter; None: the base's."""
        return self.zero if name is None else self._row[name]

    def release(self, row: int) -> None:
        self._users[row] -= 1

    def rows_of(self, labels: Tensor) -> Tensor:
        """Rows (B,) of labels (B,) on the device: the base's for -1 and non-resident adapters."""
        found = self.where[labels.clamp(min=0)]
        return torch.where(labels < 0, self.zero, found)

    def _load(self, lora: Lora, label: int) -> None:
        """Writes an adapter to a free row; the row stays free if there is no memory for it."""
        row = self._free[-1]
        for group in self._groups:
            group.clear(row)
        for key, (a, b) in lora.weights.items():
            group, member = self._members[key]
            if group.table is None:  # layers that no adapter changes get no tables
                group.stack(self.rows, self.rank)
                self.tables += 1
            group.write(row, member, a, b)
        self.where[label] = row
        self._row[lora.name] = self._free.pop()

    def _free_row(self, name: str) -> None:
        self.where[self._labels.index(name)] = self.zero
        self._free.append(self._row.pop(name))

    def _read(self, name: str) -> Lora:
        row = self._row[name]
        weights = {
            key: group.read(row, member)
            for key, (group, member) in self._members.items()
            if group.table is not None
        }
        return Lora(name, weights, self._invocations[name])

    def _check_shapes(self, lora: Lora) -> None:
        for (layer, projection), (a, b) in lora.weights.items():
            group, member = self._members.get((layer, projection), (None, 0))
            fits = group is not None and (a.shape[1], b.shape[0]) == (
                group.in_features,
                group.sizes[member],
            )
            if not fits:
                raise MismatchError(
                    f"adapter {lora.name!r}: its weights for {projection} of layer {layer} do not "
                    "fit the base; use the base that it was trained on"
                )


def _install(
    layers: Iterable[Any], batch: RowSelection, dtype: torch.dtype
) -> tuple[list[FusedProjections], dict[Key, tuple[FusedProjections, int]]]:
    """Replaces every decoder layer's projections by groups."""
    groups: list[FusedProjections] = []
    members: dict[Key, tuple[FusedProjections, int]] = {}
    for index, layer in enumerate(layers):
        for part, projections in GROUPS:
            parent = getattr(layer, part)
            linears = [getattr(parent, name) for name in projections]
            group = FusedProjections(linears, batch, dtype)
            groups.append(group)
            for member, name in enumerate(projections):
                setattr(
                    parent,
                    name,
                    FollowerProjection(group, member) if member else LeadProjection(group),
                )
                members[index, name] = (group, member)
    return groups, members

"""The engine's forward passes: stock decoder layers over slots, with the stack's adapters.

A prefill reads prompts and, at the router's layer, lets a decision choose each request's row. A
step makes one token for every slot and sets it as the slot's last, so that the next step can be
asked for before anyone has read it. Neither waits for the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointsman.engine.cuda_graphs import Graph, RecurringGraphs
from pointsman.engine.kv_cache import FINE_GRAIN, GRAIN, CacheView, KVCache, reach_bias
from pointsman.engine.lora_stack import UNROLLED, LoraStack
from pointsman.engine.step import Step, likeliest_of
from pointsman.engine.tower import compile_tower
from pointsman.models.base import Base, drained
from pointsman.models.cpu_kernels import threads_for, to_device
from pointsman.models.encoding import Encoded

Compiler = Callable[..., Callable[..., Tensor]]
"""``torch.compile``, or a function with the same options"""
LENGTHS = 64
"""Compiled prompts are padded to a multiple of this many tokens, so that lengths recur"""
PROMPT_GRAPHS = 16
"""Maximum number of graphs of single prompts: one for each length, or two if they are routed"""
Decide = Callable[[Sequence[Tensor], Encoded], Tensor]
"""Maps the states (B, T, hidden) at each of the router's layers, and the batch, to rows (B,)"""


@dataclass(frozen=True)
class Routing:
    """How a prefill decides."""

    layers: tuple[int, ...]
    """Ascending"""
    decide: Decide
    again: bool
    """Whether the layers below are run again because adapters change them"""


class Forward:
    """Runs one base with a stack of adapters. Not thread-safe.

    Args:
        base: a base without PEFT; its projections are replaced by the stack's.
        slots: number of requests that can run at the same time.
        kept: number of further slots of the KV cache, which no step touches.
        compiler: compiles a decoder layer for steps and one for prompts, and the vision tower's
            blocks. By default ``torch.compile`` on CUDA, where steps and recurring lengths of
            single prompts are also captured as graphs; none elsewhere.
    """

    def __init__(
        self,
        base: Base,
        stack: LoraStack,
        slots: int,
        compiler: Compiler | None = None,
        kept: int = 0,
    ) -> None:
        self.base, self.stack = base, stack
        self._is_cuda = base.device.type == "cuda"
        if compiler is None and self._is_cuda:
            compiler = torch.compile
        # One compiled layer serves all layers: their weights are its inputs.
        self._compiled = compiler(_through) if compiler else None
        self._read = compiler(_read_through) if compiler else None
        if compiler:
            # A layer with adapters and one without, each for one request and for any number. What
            # differs is marked: of sizes that never change, compilers make faster code.
            config: Any = torch._dynamo.config
            inductor: Any = import_module("torch._inductor.config")
            config.recompile_limit = max(config.recompile_limit, 64)
            inductor.unroll_reductions_threshold = max(
                inductor.unroll_reductions_threshold, UNROLLED + 1
            )
            if hasattr(inductor.triton, "enable_pdl"):  # since PyTorch 2.9
                # A step has hundreds of small kernels: each begins while the one before it ends.
                inductor.triton.enable_pdl = True
            compile_tower(base.core.visual, compiler)
        self._graphs: dict[tuple[int, ...], Graph[tuple[Tensor, Tensor]]] = {}
        """CUDA graphs of steps by requests and reach"""
        self._prompt_graphs = RecurringGraphs[Tensor](PROMPT_GRAPHS)
        """Of single prompts' layers"""
        self._marks = deque[Any]()
        """Events after a prefill's latest layers"""
        self._tables = stack.tables
        self._language: Any = base.core.language_model
        self._head: Any = base.model.lm_head
        self._widest = stack.widest
        device = base.device
        self.slots = KVCache(base.core, slots + kept)
        self.tokens = torch.zeros(slots, dtype=torch.long, device=device)
        """The last token of each slot, not yet read"""
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        """Number of tokens whose keys are in each slot"""
        self.positions = torch.zeros(slots, dtype=torch.long, device=device)
        """Rotary position of each slot's next token"""
        self.rows = torch.full((slots,), stack.zero, device=device)
        self.active = torch.zeros(slots, dtype=torch.long, device=device)
        """1 where a request is running"""

    @torch.inference_mode()
    def prefill(self, *args: Any, **options: Any) -> Tensor:
        """``reading``, to its end."""
        return drained(self.reading(*args, **options))

    def reading(
        self,
        encoded: Encoded,
        image_features: dict[str, Any],
        slots: Sequence[int],
        rows: Tensor | None,
        routing: Routing | None = None,
        *,
        tail: int = 0,
        known: int = 0,
    ) -> Generator[None, None, Tensor]:
        """Reads B prompts into their slots; returns next-token logits (B, vocabulary).

        It yields between layers. There, steps of other slots may run, but no other reading. Steps
        pass over what was read until it is begun, see ``begin``.

        Args:
            encoded: padded on the right.
            rows: (B,) rows of adapters already chosen; None: ``routing`` decides.
            tail: number of last tokens on which activated adapters act; 0: adapters act on all.
            known: for a single prompt, the number of first tokens already in its slot, images
                included.
        """
        lengths = encoded["attention_mask"].sum(1)
        is_compiled = self._read is not None and not known and not tail
        if is_compiled:
            encoded = _widened(encoded)
        total = encoded["input_ids"].shape[1]
        self.reserve(total + 1)
        self.forget_steps()
        places = to_device(torch.tensor(slots), lengths.device)
        # Steps write to all slots: to these, after the last token.
        self.lengths[places] = total
        states, deepstack = self._embed(encoded, {} if known else image_features, known)
        embedded = states
        turns = self._rotary(states, encoded["position_ids"][..., known:])
        view = CacheView(places, None)
        if known:
            view = self._view(places, torch.full_like(places, known), total - known, total)
        through = _Through(turns, view, deepstack, is_compiled)
        first = 0
        if routing is not None:
            reads, depth = [states], 0
            for layer in routing.layers:
                read = yield from self._span(through, reads[-1], depth, layer, None)
                reads.append(read)
                depth = layer
            rows = routing.decide(reads[1:], _from(encoded, known))
            if not routing.again:
                states, first = reads[-1], depth
        assert rows is not None
        states = yield from self._span(through, states, first, None, None if tail else rows)
        self.slots.clear(places, total)
        self.lengths[places], self.rows[places] = lengths, rows
        self.positions[places] = encoded["position_ids"].amax((0, 2)) + 1
        if tail:
            at = (lengths - tail)[:, None] + torch.arange(tail, device=lengths.device)
            picked = at - known
            ends, added = _picked(embedded, picked), [_picked(level, picked) for level in deepstack]
            last = self._tail(encoded, ends, added, places, at, rows)[:, -1]
        else:
            last = states[torch.arange(len(states), device=states.device), lengths - known - 1]
        self.forget_steps()
        return self._logits(last)

    @torch.inference_mode()
    def begin(self, slots: Sequence[int], tokens: Tensor) -> None:
        """From now on steps answer the prompts in these slots; ``tokens`` (B,) are the first."""
        places = to_device(torch.tensor(slots), self.tokens.device)
        self.tokens[places] = tokens.clamp(min=0)
        self.active.index_fill_(0, places, 1)  # setting it to 1 would wait for the device

    def keep_pace(self) -> int:
        """Waits until the device has at most one part of a reading left to do; returns how many.

        The host is much faster; a step would come after everything that it has asked for.
        """
        if self.base.device.type != "cuda":
            return 0
        mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
        mark.record()
        self._marks.append(mark)
        if len(self._marks) > 1:
            self._marks.popleft().synchronize()
        return 1

    @torch.inference_mode()
    def step(self, count: int, longest: int) -> Step:
        """Reads the last token of the first ``count`` slots, and sets the likeliest as the next.

        Args:
            longest: number of tokens in the longest of them.
        """
        self.reserve(longest + 1)
        # Compiled steps and graphs are made for each reach, so theirs are few.
        grain = GRAIN if self._compiled is not None else FINE_GRAIN
        reach = min(self.slots.length, grain * -(-(longest + 1) // grain))
        if self._is_cuda:
            # Not beyond the last slot that can run: what lies there is kept. One request is read as
            # two, which takes no longer and is a case less to compile.
            found = self._replay(min(_power_of_two(max(count, 2)), len(self.tokens)), reach)
            return Step(*found)
        rows = self.stack.batch.rows
        if rows is None or len(rows) != count:
            self.stack.batch.choose(self.rows[:count], is_step=self._compiled is not None)
        return Step(*self._step(count, reach))

    def threads(self, tokens: int) -> AbstractContextManager[None]:
        """Limits CPU threads to the number worthwhile for a forward of this many tokens."""
        return threads_for(tokens, self._widest)

    def forget_steps(self) -> None:
        """Discards what was gathered for the previous batch."""
        self.stack.batch.choose(None)

    def release(self, slot: int) -> None:
        self.active[slot].zero_()
        self.forget_steps()

    def reserve(self, length: int) -> None:
        """Makes room for this many tokens in each slot, and forgets what holds replaced tensors."""
        if self.slots.reserve(length) or self.stack.tables != self._tables:
            self._graphs.clear()
            self._prompt_graphs.clear()
            self._tables = self.stack.tables
            self.forget_steps()

    def _replay(self, count: int, reach: int) -> tuple[Tensor, Tensor]:
        """A step as a CUDA graph, captured when a step of its shape first occurs."""
        if (count, reach) not in self._graphs:
            self.stack.batch.choose(self.rows[:count], is_step=True)
            counted = (self.lengths, self.positions, self.tokens)
            graph = Graph(lambda: self._step(count, reach), moving=counted)
            self._graphs[count, reach] = graph
            self.forget_steps()
        return self._graphs[count, reach]()

    def _step(self, count: int, reach: int) -> tuple[Tensor, Tensor]:
        states = self._language.embed_tokens(self.tokens[:count, None])
        turns = self._rotary(states, self.positions[None, :count, None].expand(3, -1, -1))
        view = self._view(None, self.lengths[:count], 1, reach)
        through = self._compiled or _through
        for layer in self._language.layers:
            if self._compiled is not None:
                _mark(states, turns, view)
            states = through(layer, states, turns, view)
        self.lengths += self.active
        self.positions += self.active
        logits = self._logits(states[:, -1])
        likeliest = likeliest_of(logits)
        # Slots that do not run get one too: their prompts' first tokens come later.
        self.tokens[:count] = likeliest.clamp(min=0)
        return likeliest, logits

    def _view(self, rows: Tensor | None, start: Tensor, tokens: int, reach: int) -> CacheView:
        bias = reach_bias(start, tokens, reach, self.base.dtype)
        return CacheView(rows, start, bias)

    def _tail(
        self,
        encoded: Encoded,
        states: Tensor,
        deepstack: Sequence[Tensor],
        places: Tensor,
        at: Tensor,
        rows: Tensor,
    ) -> Tensor:
        """Reads the tokens ``at`` (B, tail), each prompt's end, again with the adapters."""
        positions = encoded["position_ids"].gather(2, at.expand(3, -1, -1))
        reach = encoded["input_ids"].shape[1]
        self.stack.batch.choose(rows)
        view = self._view(places, at[:, 0], at.shape[1], reach)
        through = _Through(self._rotary(states, positions), view, deepstack)
        return self._layers(through, states, 0, len(self._language.layers))

    def _embed(
        self, encoded: Encoded, image_features: dict[str, Any], known: int
    ) -> tuple[Tensor, list[Tensor]]:
        """States (B, T, hidden) of prompts with images, and what DeepStack adds in each layer."""
        ids = encoded["input_ids"][:, known:]
        states = self._language.embed_tokens(ids)
        if "image" not in image_features:
            return states, []
        features = image_features["image"]
        # Their number is known, so the host need not wait for the device to count them.
        count = sum(len(image) for image in features.pooler_output)
        where = encoded["mm_token_type_ids"].flatten().nonzero_static(size=count).flatten()

        def placed(images: Sequence[Tensor], others: Tensor) -> Tensor:
            values = torch.cat(list(images)).to(others.dtype)
            return others.flatten(0, 1).index_copy(0, where, values).view(others.shape)

        zeros = torch.zeros_like(states)
        added = [placed(level, zeros) for level in features.deepstack_features]
        return placed(features.pooler_output, states), added

    def _rotary(self, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        turns: tuple[Tensor, Tensor] = self._language.rotary_emb(states, positions)
        return turns

    def _span(
        self, through: _Through, states: Tensor, first: int, last: int | None, rows: Tensor | None
    ) -> Generator[None, None, Tensor]:
        """States (B, T, hidden) through the layers from ``first`` to before ``last``, in parts.

        Args:
            rows: (B,) the adapters'; None: the base alone.
        """
        stop = len(self._language.layers) if last is None else last
        # For a single prompt, the host takes longer to call a layer than the device to run it.
        is_graph = through.is_compiled and self._is_cuda and len(states) == 1
        while first < stop:
            after = stop if is_graph else first + 1
            used = rows
            if rows is None and through.is_compiled and not self.stack.changes(first, after):
                used = self._no_rows(len(states))  # a case less to compile
            self.stack.batch.choose(used, is_compiled=through.is_compiled)
            if is_graph:
                states = self._replayed(through, states, first, after, used)
            else:
                states = self._layers(through, states, first, after)
            self.forget_steps()
            first = after
            yield
        return states

    def _no_rows(self, count: int) -> Tensor:
        """(B,) the base's row."""
        return torch.full((count,), self.stack.zero, device=self.base.device)

    def _layers(self, through: _Through, states: Tensor, first: int, stop: int) -> Tensor:
        call = self._read if through.is_compiled and self._read is not None else _through
        layers: nn.ModuleList = self._language.layers
        for index in range(first, stop):
            if through.is_compiled:
                _mark(states, through.turns, through.view)
            states = call(layers[index], states, through.turns, through.view)
            if index < len(through.deepstack):
                states = states + through.deepstack[index]
        return states

    def _replayed(
        self, through: _Through, states: Tensor, first: int, stop: int, rows: Tensor | None
    ) -> Tensor:
        """The same as a CUDA graph, if such a prompt has been read before."""

        added = through.deepstack[first:stop]

        def span(
            states: Tensor, cos: Tensor, sin: Tensor, places: Tensor, *others: Tensor
        ) -> Tensor:
            levels, chosen = others[: len(added)], others[len(added) :]
            self.stack.batch.choose(chosen[0] if chosen else None, is_compiled=True)
            nothing = [states] * first  # the layers below have added theirs
            again = _Through(
                (cos, sin), CacheView(places, None), (*nothing, *levels), is_compiled=True
            )
            return self._layers(again, states, first, stop)

        assert through.view.rows is not None
        chosen = () if rows is None else (rows,)
        inputs = (states, *through.turns, through.view.rows, *added, *chosen)
        key = (states.shape[1], first, stop, len(added), len(chosen))
        return self._prompt_graphs(key, span, inputs)

    def _logits(self, states: Tensor) -> Tensor:
        logits: Tensor = self._head(self._language.norm(states))
        return logits


@dataclass(frozen=True)
class _Through:
    """What all layers of a reading share."""

    turns: tuple[Tensor, Tensor]
    view: CacheView
    deepstack: Sequence[Tensor]
    """(B, T, hidden): what each of the first layers adds, 0 but for images"""
    is_compiled: bool = False


def start_compilers() -> None:
    """Starts the processes that compile kernels, which takes seconds. Without it, they would start
    with the first compilation."""
    compilers: Any = import_module("torch._inductor.async_compile")
    if hasattr(compilers, "maybe_warm_pool"):  # earlier versions start them when imported
        compilers.maybe_warm_pool()


def _through(layer: Any, states: Tensor, turns: tuple[Tensor, Tensor], view: CacheView) -> Tensor:
    output: Tensor = layer(states, position_embeddings=turns, attention_mask=None, view=view)
    return output


def _read_through(
    layer: Any, states: Tensor, turns: tuple[Tensor, Tensor], view: CacheView
) -> Tensor:
    """The same for prompts: the compiler keeps compiled code per function."""
    return _through(layer, states, turns, view)


def _mark(states: Tensor, turns: tuple[Tensor, Tensor], view: CacheView) -> None:
    """Tells compilers which sizes differ: requests, tokens, and how many they attend to."""
    for tensor, sizes in (
        (states, (0, 1)),
        *((turn, (0, 1)) for turn in turns),
        (view.rows, (0,)),
        (view.start, (0,)),
        (view.bias, (0, 3)),
    ):
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, sizes)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _texts(encoded: Encoded) -> dict[str, Tensor]:
    names = ("input_ids", "attention_mask", "mm_token_type_ids", "position_ids")
    tensors = cast(dict[str, Tensor], encoded)
    return {name: tensors[name] for name in names}


def _from(encoded: Encoded, known: int) -> Encoded:
    """The batch without its first tokens."""
    rest = {name: value[..., known:] for name, value in _texts(encoded).items()}
    return cast(Encoded, {**encoded, **rest})


def _picked(values: Tensor, at: Tensor) -> Tensor:
    """Values (B, T, hidden) at the positions ``at`` (B, tail)."""
    return values.gather(1, at[..., None].expand(-1, -1, values.shape[-1]))


def _widened(encoded: Encoded) -> Encoded:
    """The batch, padded to a length that recurs."""
    missing = -encoded["input_ids"].shape[1] % LENGTHS
    if not missing:
        return encoded
    wide = {k: functional.pad(value, (0, missing)) for k, value in _texts(encoded).items()}
    return cast(Encoded, {**encoded, **wide})

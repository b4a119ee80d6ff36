"""Prompt encoding: rendered by the chat template, split into tokens and patches, padded.

Training and serving both use ``PromptEncoder.encode``, so they cannot differ.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pointsman.conversation import Prompt, Turn, check_places, check_text
from pointsman.errors import ConfigError, SampleError
from pointsman.models.checkpoint import PaddingSide, pad
from pointsman.models.encoding import IGNORED, Encoded, joined
from pointsman.models.vision import digest_of, pixels_of

_ZERO_WIDTH = "\u200b"
_PART = 2**16
"""Characters that are tokenised at a time to see whether a text is too long"""
_TOO_LONG = 1.05
"""Times the limit: a text in parts has some tokens more than it has as one"""


@dataclass(frozen=True)
class PromptEncoder:
    """Turns prompts into a base's batches. It computes only on the CPU."""

    id: str
    """The base's id, for errors"""
    tokenizer: Any
    image_processor: Any
    template: str
    image_token_id: int
    longest: int
    """Maximum number of tokens that the base reads"""
    positions: Callable[..., Any]
    """The model's ``get_rope_index``"""

    def estimated_tokens(self, characters: int, sizes: Sequence[tuple[int, int]]) -> int:
        """An estimate of the tokens of a text and images of these sizes (width, height)."""
        merge = int(self.image_processor.merge_size) ** 2
        patches = [self.image_processor.get_number_of_image_patches(h, w) for w, h in sizes]
        return int(sum(patches)) // merge + characters // 4 + 16

    def encode(self, prompts: Sequence[Prompt], padding_side: PaddingSide = "right") -> Encoded:
        """Prompts as one padded batch on the CPU, ready for the answer's first token.

        Raises:
            SampleError: a prompt's images and image places differ in number, or the prompt is
                longer than the base reads.
        """
        for prompt in prompts:
            if sum(len(turn.text) for turn in prompt.turns) > self.longest:
                self._check_length(prompt)
        texts = [self.render(prompt.turns) for prompt in prompts]
        grids, pixels = self._images(prompts)
        rows = [self._tokens(text, grid) for text, grid in zip(texts, grids, strict=True)]
        return self._batch(rows, grids, pixels, padding_side)

    def encode_answers(self, prompts: Sequence[Prompt]) -> tuple[Encoded, Tensor]:
        """Conversations with their answers, and labels (B, T): -100 except on assistant turns.

        Raises:
            SampleError: a conversation without an assistant turn.
        """
        grids, pixels = self._images(prompts)
        rows, labels = [], []
        for prompt, grid in zip(prompts, grids, strict=True):
            tokens, targets = self._labelled(prompt.turns, grid)
            rows.append(tokens)
            labels.append(targets)
        encoded = self._batch(rows, grids, pixels, "right")
        return encoded, pad(labels, IGNORED, "right")

    def _labelled(
        self, turns: Sequence[Turn], grids: Sequence[Tensor]
    ) -> tuple[list[int], list[int]]:
        """A conversation's token ids and, for each, its training label."""
        tokens: list[int] = []
        targets: list[int] = []
        remaining = iter(grids)
        for text, is_answer in self._segments(turns):
            ids = self._tokens(text, list(islice(remaining, text.count(self._image_token))))
            tokens += ids
            targets += self._targets(ids) if is_answer else [IGNORED] * len(ids)
        return tokens, targets

    def render(self, turns: Sequence[Turn], answer_next: bool = True) -> str:
        """The chat template's text for ``turns``; user text cannot add special tokens to it."""
        messages = [
            {"role": turn.role, "content": [self._content(part) for part in turn.parts]}
            if None in turn.parts
            else {"role": turn.role, "content": self.neutralised(turn.text)}
            for turn in turns
        ]
        text = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=answer_next,
        )
        return str(text)

    def neutralised(self, text: str) -> str:
        """``text`` with every special token in it split by a zero-width space.

        Text such as ``<|image_pad|>`` would otherwise become the real special token.
        """
        check_text(text)
        pieces, place = [], 0
        # From just after the last one's first character: tokens may overlap.
        while match := self._special_tokens.search(text, place):
            pieces += [text[place : match.start() + 1], _ZERO_WIDTH]
            place = match.start() + 1
        return "".join((*pieces, text[place:]))

    def decode(self, tokens: Tensor) -> str:
        """Tokens of one answer (T,) as text, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _check_length(self, prompt: Prompt) -> None:
        """Refuses a text of megabytes before all of it is tokenised, which takes seconds."""
        tokens = 0
        for text in (turn.text for turn in prompt.turns):
            check_text(text)
            for start in range(0, len(text), _PART):
                part = text[start : start + _PART]
                tokens += len(self.tokenizer(part, add_special_tokens=False)["input_ids"])
                if tokens > _TOO_LONG * self.longest:
                    raise SampleError(
                        f"a prompt of more than {int(tokens / _TOO_LONG)} tokens is longer than "
                        f"the model's context length of {self.longest}; shorten the text"
                    )

    def _content(self, part: str | None) -> dict[str, str]:
        if part is None:
            return {"type": "image"}
        return {"type": "text", "text": self.neutralised(part)}

    @cached_property
    def _special_tokens(self) -> re.Pattern[str]:
        tokens = (t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special)
        # An empty alternation would match everywhere; (?!) matches nowhere.
        return re.compile("|".join(map(re.escape, tokens)) or "(?!)")

    @property
    def _image_token(self) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(self.image_token_id))

    def _segments(self, turns: Sequence[Turn]) -> Iterator[tuple[str, bool]]:
        """The rendered conversation, split around its assistant turns."""
        done = ""
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            question = self.render(turns[:index])
            answered = self.render(turns[: index + 1], answer_next=False)
            if not (question.startswith(done) and answered.startswith(question)):
                raise ConfigError(
                    f"{self.id}: its chat template rewrites earlier turns, so this conversation "
                    "cannot be trained on whole; give one answer per sample"
                )
            yield question[len(done) :], False
            yield answered[len(question) :], True
            done = answered
        if not done:
            raise SampleError("a sample has no assistant turn, so there is no answer to train on")

    def _targets(self, ids: list[int]) -> list[int]:
        """An answer's tokens up to the one that ends it; the template's additions never count."""
        end = self.tokenizer.eos_token_id
        last = len(ids) - ids[::-1].index(end) if end in ids else len(ids)
        return ids[:last] + [IGNORED] * (len(ids) - last)

    def _images(self, prompts: Sequence[Prompt]) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Each prompt's image grids (3,), and each image's pixels (P, patch area * 3)."""
        for prompt in prompts:
            check_places(prompt.turns, len(prompt.images))
        cuts: dict[int, tuple[Tensor, Tensor]] = {}
        for image in (image for prompt in prompts for image in prompt.images):
            if id(image) not in cuts:
                cuts[id(image)] = pixels_of(image, self.image_processor)
        cut = [[cuts[id(image)] for image in prompt.images] for prompt in prompts]
        grids = [[grid for grid, _ in images] for images in cut]
        return grids, [pixels for images in cut for _, pixels in images]

    def _tokens(self, text: str, grids: Sequence[Tensor]) -> list[int]:
        """Token ids of ``text``, its image places widened to one token per merged patch."""
        shown = text.count(self._image_token)
        if shown != len(grids):
            raise ConfigError(
                f"{self.id}: its chat template shows {shown} of {len(grids)} images; "
                "use the template of a Qwen3-VL checkpoint"
            )
        merge = self.image_processor.merge_size**2
        widths = iter([int(grid.prod()) // merge for grid in grids])
        # Widened as tokens: a thousand places of a picture take longer to tokenise than any text.
        tokens: list[int] = []
        for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]:
            tokens += [token] * (next(widths) if token == self.image_token_id else 1)
        return tokens

    def _batch(
        self,
        rows: list[list[int]],
        grids: list[list[Tensor]],
        pixels: Sequence[Tensor],
        padding_side: PaddingSide,
    ) -> Encoded:
        longest, most = max(map(len, rows)), self.longest
        if longest > most:
            raise SampleError(
                f"a prompt of {longest} tokens is longer than the model's context length of "
                f"{most}; shorten the text or set max_pixels for smaller images"
            )
        filler = self.tokenizer.pad_token_id
        ids = pad(rows, 0 if filler is None else filler, padding_side)
        mask = pad([[1] * len(row) for row in rows], 0, padding_side)
        kinds = ((ids == self.image_token_id) & mask.bool()).long()
        flat = [grid for row in grids for grid in row]
        grid_thw = torch.stack(flat) if flat else None
        # On the CPU: it reads grid sizes one by one, each a device synchronisation elsewhere.
        positions, _ = self.positions(
            ids, mm_token_type_ids=kinds, image_grid_thw=grid_thw, attention_mask=mask
        )
        batch = Encoded(
            input_ids=ids, attention_mask=mask, mm_token_type_ids=kinds, position_ids=positions
        )
        if grid_thw is not None:
            batch["image_grid_thw"] = grid_thw
            batch.update(_images_of(pixels, flat))  # type: ignore[typeddict-item]
        return batch


def _images_of(pixels: Sequence[Tensor], grids: Sequence[Tensor]) -> dict[str, Tensor]:
    """The image tensors of a batch, from the pixels and the grid of each image, in order."""
    different = {id(cut): (cut, grid) for cut, grid in zip(pixels, grids, strict=True)}
    places = {key: place for place, key in enumerate(different)}
    index = torch.tensor([places[id(cut)] for cut in pixels])
    digests = torch.stack([digest_of(cut, grid) for cut, grid in different.values()])
    return {
        "pixels": joined([cut for cut, _ in different.values()]),
        "image_index": index,
        "image_digests": digests[index],
    }

"""Router: the sealed folder of a head and everything needed to interpret its output.

``config.json`` carries the label map, the recipe, the base's fingerprint and the digest of every
other file; it is written last. If a byte or a field was changed, loading fails with a message that
names it. Nothing is ever unpickled: the original ``.pt`` checkpoints are read with
``weights_only=True``.
"""

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from pointsman.conversation import Prompt
from pointsman.errors import ArtefactError, MismatchError
from pointsman.files import (
    read_object,
    read_tensors,
    refuse_other,
    write_json,
    write_tensors,
    write_text,
)
from pointsman.labels import BASE, FALLBACKS, OUT_OF_SCOPE, LabelMap
from pointsman.models.features import FeatureRecipe, Origin, Reader, extract, probe_features
from pointsman.routing.calibration import Calibration
from pointsman.routing.card import model_card
from pointsman.routing.head import RouterHead, head_from_state
from pointsman.routing.route import Held, Route
from pointsman.routing.scores import Evidence, Scorer, scorer_from_state
from pointsman.routing.seal import (
    CONFIG,
    FORMAT_VERSION,
    check_adapter_seal,
    check_seal,
    router_digest,
    sealed,
)

_FILES = ("router.safetensors", "probes.safetensors", "score.safetensors")
PROBE_TOLERANCE = 0.05
"""Largest relative distance of a replayed probe's features; bfloat16 alone stays below 0.02."""


def check_place(path: Path, labels: LabelMap) -> None:
    """Checks before training that a router with these labels may be written to a folder.

    Raises:
        ArtefactError: the folder holds something else, or is a file.
        MismatchError: it holds a router with other labels.
    """
    refuse_other(path, "a router")
    where = path / CONFIG
    if where.is_file():
        there = LabelMap.from_json(read_object(where).get("adapters"), f"{where}: adapters")
        labels.check_same(there, "the new router", str(path), "choose another folder")


class Probes(NamedTuple):
    """The expected results for fixed synthetic prompts.

    Features are (probes, features), logits (probes, labels), scores (probes,).
    """

    features: Tensor
    logits: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Router:
    """A head with its label map, recipe, score and calibration.

    Raises:
        MismatchError: the head's size contradicts the label map.
    """

    labels: LabelMap
    head: RouterHead
    scorer: Scorer
    recipe: FeatureRecipe
    origin: Origin
    calibration: Calibration
    probes: Probes
    best_loss: float
    best_acc: float
    training: dict[str, Any] = field(default_factory=dict)
    adapter_digests: dict[str, dict[str, str]] = field(default_factory=dict)
    """SHA-256 of each adapter's files by file name; unsealed adapters are missing"""
    digest: str | None = field(default=None, init=False, compare=False)
    """Of the folder that it was read from, see ``router_digest``; a changed copy has none"""

    def __post_init__(self) -> None:
        if self.head.num_labels != len(self.labels):
            raise MismatchError(
                f"the head has {self.head.num_labels} outputs but the label map is "
                f"{self.labels}; train a router on features with these labels"
            )

    @property
    def layer(self) -> int:
        """Number of layers of the base, or of its encoder, that routing runs."""
        return self.recipe.layers[-1]

    @property
    def hidden_size(self) -> int:
        """Hidden size of the base, or of its encoder; the head reads this much from each place."""
        return self.head.hidden_size // len(self.recipe.places)

    def to(self, device: torch.device) -> Self:
        """The same router on another device."""
        head, scorer = copy.deepcopy(self.head), copy.deepcopy(self.scorer)
        moved = replace(self, head=head.to(device), scorer=scorer.to(device))
        object.__setattr__(moved, "digest", self.digest)
        return moved

    def read(self, features: Tensor) -> Evidence:
        """The evidence of features (B, places, hidden), on the router's device, without a wait."""
        values = features.flatten(1).to(self.head.first.weight)
        evidence: Evidence = self.scorer(self.head, values)
        return evidence

    def check_fallback(self, fallback: str) -> None:
        """Raises ``LabelError`` unless it is ``base``, ``error`` or one of the adapters."""
        if fallback not in FALLBACKS:
            self.labels.label(fallback)  # raises, naming what there is

    def route(
        self,
        reader: Reader,
        prompts: Sequence[Prompt],
        held: Held | None = None,
        fallback: str = BASE,
    ) -> list[Route]:
        """Decisions for a batch; the recipe says what the router sees of each prompt.

        Adapters are off. Not thread-safe: call it from the thread that owns the model.

        Args:
            reader: the base, or the router's text encoder.
            held: what the sessions hold, on the CPU.
            fallback: what answers if the router abstains: ``base``, an adapter, or nothing
                (``error``).
        """
        return self.route_prepared(reader, self.prepare(reader, prompts), held, fallback)

    def prepare(self, reader: Reader, prompts: Sequence[Prompt]) -> Any:
        """A batch on the host of what the router reads of the prompts; thread-safe."""
        return reader.prepare([prompt.routed_part(self.recipe.history) for prompt in prompts])

    def route_prepared(
        self, reader: Reader, prepared: Any, held: Held | None = None, fallback: str = BASE
    ) -> list[Route]:
        """As ``route``, for a batch that ``prepare`` made."""
        with torch.inference_mode(), reader.without_adapters():
            features = extract(reader, reader.on_device(prepared), self.recipe)
        return self.routes(features, held, fallback)

    def routes(
        self, features: Tensor, held: Held | None = None, fallback: str = BASE
    ) -> list[Route]:
        """Decisions for features (B, places, hidden) of any dtype and device.

        Args:
            held: what the sessions hold, on the CPU.
        """
        with torch.inference_mode():
            return self.as_routes(self.decided(self.read(features), held).tolist(), fallback)

    def decided(self, evidence: Evidence, held: Held | None = None) -> Tensor:
        """Decisions on B requests as numbers (B, 3 + labels), where the evidence is.

        They are the label, the label had no session held one, the score, and the probabilities.
        """
        labels = self.labels_of(evidence, held)
        own = self.labels_of(evidence) if held else labels
        probabilities = self.calibration.probabilities(evidence.logits)
        firsts = torch.stack(
            [column.to(probabilities) for column in (labels, own, evidence.scores)]
        )
        return torch.cat([firsts.mT, probabilities], 1)

    def as_routes(self, decided: Sequence[Sequence[float]], fallback: str = BASE) -> list[Route]:
        """The decisions that ``decided`` made, as a list on the host."""
        abstaining = None if fallback in FALLBACKS else fallback
        rows = [(int(label), int(own), score, row) for label, own, score, *row in decided]
        return [
            Route(
                label=label,
                adapter=abstaining if label == OUT_OF_SCOPE else self.labels.names[label],
                probabilities=dict(zip(self.labels, row, strict=True)),
                abstained=label == OUT_OF_SCOPE,
                score=score,
                candidates=self._candidates(row),
                refused=label == OUT_OF_SCOPE and fallback == "error",
                held=label != alone,
                router_digest=self.digest,
            )
            for label, alone, score, row in rows
        ]

    def abstaining(self, route: Route, fallback: str) -> Route:
        """The same decision, had the router abstained."""
        return replace(
            route,
            label=OUT_OF_SCOPE,
            adapter=None if fallback in FALLBACKS else fallback,
            abstained=True,
            refused=fallback == "error",
        )

    def answering(self, labels: Tensor, fallback: str) -> Tensor:
        """Labels (B,) of the answering adapters, on the same device: the fallback's replaces -1."""
        if fallback in FALLBACKS:
            return labels
        return labels.where(labels != OUT_OF_SCOPE, self.labels.label(fallback))

    def _candidates(self, probabilities: Sequence[float]) -> tuple[str, ...] | None:
        if self.calibration.conformal is None:
            return None
        pairs = zip(self.labels, probabilities, strict=True)
        return tuple(name for name, p in pairs if p >= self.calibration.set_threshold)

    def labels_of(self, evidence: Evidence, held: Held | None = None) -> Tensor:
        """Labels (B,) from the evidence of B requests, -1 if the router abstains.

        They stay on the evidence's device: nothing waits for them. A held label stays, even if the
        router abstains, until the probability of another exceeds its own by more than the
        hysteresis.
        """
        probabilities = self.calibration.probabilities(evidence.logits)
        best = probabilities.max(-1)
        labels = best.indices.where(evidence.scores >= self.calibration.threshold, OUT_OF_SCOPE)
        if held is None:
            return labels
        kept = probabilities.gather(-1, held.labels.clamp(min=0)[:, None])[:, 0]
        leaves = (labels != OUT_OF_SCOPE) & (best.values > kept + held.hysteresis)
        return labels.where((held.labels == OUT_OF_SCOPE) | leaves, held.labels)

    def check_base(self, base: Reader) -> None:
        """Raises ``MismatchError`` unless the router was trained on features of ``base``.

        ``base`` is a text encoder if the router reads with one.

        Digests are compared, then the probes are replayed: with the same files, another library
        version or dtype may still compute other features.
        """
        trained_on, kind = self.origin.base_model_id, "base"
        if self.origin.is_encoder:
            kind = "text encoder"
        if self.origin.is_encoder == base.reads_images:
            raise MismatchError(
                f"the router reads with the {kind} {trained_on}, not with {base.id}; "
                "give that one, or preprocess and train a router on this one"
            )
        self.origin.fingerprint.check_same(
            base.fingerprint,
            f"the router's {kind} ({trained_on})",
            f"the {kind} in use ({base.id})",
            f"use that {kind}, or preprocess and train a router on this one",
        )
        made = f"the {kind} in use ({base.id}, {base.precision}) makes"
        self.check_probes(probe_features(base, self.recipe), made, "or preprocess and train again")

    def check_probes(self, found: Tensor, made: str, otherwise: str) -> None:
        """Raises ``MismatchError`` unless probes are as they were when the router was trained.

        Args:
            found: features (probes, places, hidden).
            made: the beginning of the error: what makes them, or has them.
            otherwise: its end: what else to do.
        """
        expected = self.probes.features.view(found.shape)
        moved = float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
        if not moved <= PROBE_TOLERANCE:
            raise MismatchError(
                f"{made} features that differ by {moved:.1%} from those that the router was "
                f"trained on; use the same dtype and library versions, {otherwise}"
            )

    @property
    def unsealed(self) -> list[str]:
        """Adapters whose files the router has not sealed, in label order."""
        return [name for name in self.labels if name not in self.adapter_digests]

    def check_adapter(self, name: str, folder: Path, digests: Mapping[str, str]) -> None:
        """Raises ``MismatchError`` unless an adapter's files are those that were sealed.

        Args:
            digests: SHA-256 of its files by file name.
        """
        check_adapter_seal(name, folder, digests, self.adapter_digests.get(name, {}))

    def save(self, path: str | Path) -> None:
        """Writes the router folder, ``config.json`` last; replaces a router with the same labels.

        Raises:
            ArtefactError: the folder holds something else, or cannot be written.
            MismatchError: it holds a router with other labels.
        """
        path = Path(path)
        check_place(path, self.labels)
        where = path / CONFIG
        new = path / ".new"  # a full disk fails here, while the old router is still intact
        try:
            self._write(new)
            where.unlink(missing_ok=True)  # until the new one is there, this is not a router
            for name in (*_FILES, "README.md", where.name):
                (new / name).replace(path / name)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a router folder.

        Raises:
            ArtefactError: files are missing or truncated.
            MismatchError: a file or a field is not the one that was sealed.
        """
        path = Path(path)
        where = path / CONFIG
        if not where.is_file():
            raise ArtefactError(
                f"{path}: not a complete router folder (no config.json); "
                "write one with `pointsman train`"
            )
        config = read_object(where)
        check_seal(path, config, _FILES)
        head = head_from_state(read_tensors(path / _FILES[0]), str(path / _FILES[0]))
        score = path / _FILES[2]
        router = cls(
            labels=LabelMap.from_json(config["adapters"], f"{where}: adapters"),
            head=head,
            scorer=scorer_from_state(config["score"], read_tensors(score), str(score)),
            recipe=FeatureRecipe.from_json(config["recipe"], str(where)),
            origin=Origin.from_json(config, str(where)),
            calibration=Calibration.from_json(config["calibration"]),
            probes=Probes(**read_tensors(path / _FILES[1])),
            best_loss=config["best_loss"],
            best_acc=config["best_acc"],
            training=config["training"],
            adapter_digests=config["adapter_digests"],
        )
        object.__setattr__(router, "digest", router_digest(path))
        replayed = zip(router.read(router.probes.features), router.probes[1:], strict=True)
        if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in replayed):
            raise MismatchError(
                f"{path}: the head does not give its probes' logits and scores; train again"
            )
        return router

    def _write(self, path: Path) -> None:
        write_tensors(path / "router.safetensors", self.head.state_dict())
        write_tensors(path / "probes.safetensors", self.probes._asdict())
        write_tensors(path / "score.safetensors", self.scorer.state_dict())
        write_text(path / "README.md", model_card(self._config()))
        write_json(path / CONFIG, sealed(self._config(), path, _FILES))

    def _config(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "adapters": list(self.labels),
            "base_model_id": self.origin.base_model_id,
            "base_revision": self.origin.base_revision,
            "fingerprint": asdict(self.origin.fingerprint),
            "hidden_size": self.hidden_size,
            "recipe": self.recipe.to_json(),
            "best_loss": self.best_loss,
            "best_acc": self.best_acc,
            "score": list(self.scorer.parts),
            "calibration": asdict(self.calibration),
            "training": self.training,
            "adapter_digests": self.adapter_digests,
        }

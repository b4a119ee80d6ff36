"""``.pt`` checkpoints in the original scripts' layout; only tensors in them are unpickled."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointsman.errors import ArtefactError, MismatchError
from pointsman.files import write_bytes
from pointsman.labels import LabelMap
from pointsman.routing.foreign_head import adopt_head
from pointsman.routing.head import RouterHead
from pointsman.routing.reads import KEY, Reads
from pointsman.routing.router import Router

ACTIVATION = "activation"
"""Field of a checkpoint that names the activation between a head's two linear layers"""


def load_router_head(
    path: str | Path, hidden_size: int, device: str | torch.device = "cpu"
) -> tuple[RouterHead, list[str]]:
    """Loads a head and its ordered adapter names from a router folder or a ``.pt`` checkpoint.

    The head accepts features, or an encoder's output. If its file describes the features that it
    was trained on, it refuses others. It warns if consecutive requests have the same features: at
    position 0, where the original scripts pooled, a causal base gives every request the same state.

    Args:
        path: router folder, or a checkpoint in the original's layout.
        hidden_size: size of the base's hidden state, which the head must fit.

    Returns:
        The head in evaluation mode, mapping (B, hidden_size) to (B, labels), and the adapter of
        each label. If a router reads several places, the head expects their concatenated features.

    Raises:
        ArtefactError: the file is missing or broken, the checkpoint has no adapter names, or the
            head cannot be adopted, see ``adopt_head``.
        MismatchError: the head was made for another hidden size or number of labels.
    """
    path = Path(path)
    if path.is_dir():
        router = Router.load(path)
        head, adapters, reads = router.head, list(router.labels), reads_of(router)
    else:
        checkpoint = read_pt(path)
        head, adapters = _head(checkpoint, path), checkpoint["adapters"]
        reads = Reads.from_state(checkpoint["state_dict"])
    found = head.hidden_size // reads.places
    if found != hidden_size:
        raise MismatchError(
            f"{path}: the head reads {found} features but the base has "
            f"{hidden_size}; use the base that it was trained on"
        )
    if head.num_labels != len(adapters):
        raise MismatchError(
            f"{path}: the head has {head.num_labels} outputs for {len(adapters)} adapters"
        )
    head.reads = reads
    return head.to(device), adapters


def reads_of(router: Router) -> Reads:
    """What a router's head reads."""
    return Reads(router.recipe, router.probes.features)


def read_pt(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint in the original layout; unpickles only tensors and plain values.

    Raises:
        ArtefactError: the file is missing, broken or unsafe, or has no ordered adapter names.
    """
    path = Path(path)
    checkpoint = _load_pt(path)
    if not checkpoint.get("adapters"):
        raise ArtefactError(
            f"{path}: has no 'adapters', so label 0 means nothing; either retrain with "
            "`pointsman train FEATURES` (names come from the features' metadata), or state them: "
            f"`pointsman adopt {path} --adapter-names NAME,NAME,… --out NAMED.pt`"
        )
    LabelMap.from_json(checkpoint["adapters"], f"{path}: adapters")
    return checkpoint


def write_pt(path: str | Path, router: Router) -> None:
    """Writes a router's head in the original ``.pt`` layout.

    The field ``reads`` is for people. Code finds the same facts in the state dict's own metadata,
    which any module loads and ``RouterHead`` checks its features against.
    """
    reads = reads_of(router)
    state = router.head.state_dict()
    state._metadata[""][KEY] = reads.to_metadata()  # type: ignore[attr-defined]
    _save_pt(
        Path(path),
        {
            "state_dict": state,
            "adapters": list(router.labels),
            "base_model_id": router.origin.base_model_id,
            "best_loss": router.best_loss,
            "best_acc": router.best_acc,
            KEY: reads.to_json(),
        },
    )


def adopt_pt(
    path: str | Path, adapters: Sequence[str], out: str | Path, *, activation: str | None = None
) -> None:
    """Writes a copy of a nameless ``.pt`` checkpoint that carries its ordered adapter names.

    Args:
        activation: the activation between the head's two linear layers, if it has two.

    Raises:
        ArtefactError: it is not a checkpoint, or its head cannot be adopted, see ``adopt_head``.
        ConfigError: the activation is unknown.
        LabelError: the names do not form a label map.
        MismatchError: the head has another number of outputs, or the checkpoint other names.
    """
    labels, path = LabelMap(tuple(adapters)), Path(path)
    checkpoint = _load_pt(path)
    if activation is not None:
        checkpoint[ACTIVATION] = activation
    if found := checkpoint.get("adapters"):
        labels.check_same(
            LabelMap.from_json(found, str(path)), "--adapter-names", str(path), "leave them out"
        )
    head = _head(checkpoint, path)
    if head.num_labels != len(labels):
        raise MismatchError(
            f"{path}: the head has {head.num_labels} outputs but {labels} are "
            f"{len(labels)} names; name every output, in label order"
        )
    _save_pt(Path(out), checkpoint | {"adapters": list(labels)})


def _head(checkpoint: dict[str, Any], path: Path) -> RouterHead:
    state = checkpoint["state_dict"]
    is_ours = Reads.from_state(state).recipe is not None
    return adopt_head(state, "gelu" if is_ours else checkpoint.get(ACTIVATION), str(path))


def _load_pt(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise ArtefactError(f"{path}: a folder, not a .pt checkpoint; a router folder has names")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about odd pickle protocols, in files that are not pickles
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such router") from None
    except Exception:  # the unpickler raises almost anything on other files
        raise ArtefactError(
            f"{path}: not a router: neither a folder nor a .pt checkpoint of plain tensors "
            "(anything else in a pickle is refused)"
        ) from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ArtefactError(
            f"{path}: a .pt without a 'state_dict' of tensors is not a router checkpoint"
        )
    return dict(checkpoint)


def _save_pt(path: Path, checkpoint: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_bytes(path, buffer.getvalue())

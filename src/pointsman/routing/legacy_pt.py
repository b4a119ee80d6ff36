"""``.pt`` checkpoints in the original scripts' layout; nothing in them is unpickled but tensors."""

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
from pointsman.routing.head import RouterHead, head_from_state
from pointsman.routing.router import Router


def load_router_head(
    path: str | Path, hidden_size: int, device: str | torch.device = "cpu"
) -> tuple[RouterHead, list[str]]:
    """Loads a head and its ordered adapter names from a router folder or a ``.pt`` checkpoint.

    Args:
        path: router folder, or a checkpoint in the original's layout.
        hidden_size: size of the base's hidden state, which the head must fit.

    Returns:
        The head, mapping (B, hidden_size) to (B, labels), and the adapter of each label. Where a
        router reads several places, the head takes their features one after the other.

    Raises:
        ArtefactError: missing, broken, or a checkpoint without adapter names.
        MismatchError: the head was made for another hidden size or number of labels.
    """
    path = Path(path)
    if path.is_dir():
        router = Router.load(path)
        head, adapters, found = router.head, list(router.labels), router.hidden_size
    else:
        checkpoint = read_pt(path)
        head = head_from_state(checkpoint["state_dict"], str(path))
        adapters, found = checkpoint["adapters"], head.hidden_size
    if found != hidden_size:
        raise MismatchError(
            f"{path}: the head reads {found} features but the base has "
            f"{hidden_size}; use the base that it was trained on"
        )
    if head.num_labels != len(adapters):
        raise MismatchError(
            f"{path}: the head has {head.num_labels} outputs for {len(adapters)} adapters"
        )
    return head.to(device), adapters


def read_pt(path: Path) -> dict[str, Any]:
    """Reads a checkpoint in the original's layout, unpickling nothing but tensors and plain values.

    Raises:
        ArtefactError: missing, broken, unsafe, or without its ordered adapter names.
    """
    checkpoint = _load_pt(path)
    if not checkpoint.get("adapters"):
        raise ArtefactError(
            f"{path}: has no 'adapters', so label 0 means nothing; either train again with "
            "`pointsman train FEATURES` (names come from the features' metadata), or state them: "
            f"`pointsman adopt {path} --adapter-names NAME,NAME,… --out NAMED.pt`"
        )
    LabelMap.from_json(checkpoint["adapters"], f"{path}: adapters")
    return checkpoint


def write_pt(path: Path, router: Router) -> None:
    """Writes a router's head in the original's ``.pt`` layout."""
    _save_pt(
        path,
        {
            "state_dict": dict(router.head.state_dict()),
            "adapters": list(router.labels),
            "base_model_id": router.origin.base_model_id,
            "best_loss": router.best_loss,
            "best_acc": router.best_acc,
        },
    )


def adopt_pt(path: Path, adapters: Sequence[str], out: Path) -> None:
    """Writes a copy of a nameless ``.pt`` checkpoint that carries its ordered adapter names.

    Raises:
        LabelError: names that cannot be.
        MismatchError: the head has another number of outputs, or the checkpoint other names.
    """
    labels = LabelMap(tuple(adapters))
    checkpoint = _load_pt(path)
    if found := checkpoint.get("adapters"):
        labels.check_same(
            LabelMap.from_json(found, str(path)), "--adapter-names", str(path), "leave them out"
        )
    head = head_from_state(checkpoint["state_dict"], str(path))
    if head.num_labels != len(labels):
        raise MismatchError(
            f"{path}: the head has {head.num_labels} outputs but {labels} are "
            f"{len(labels)} names; name every output, in label order"
        )
    _save_pt(out, checkpoint | {"adapters": list(labels)})


def _load_pt(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise ArtefactError(f"{path}: a folder, not a .pt checkpoint; a router folder has names")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickle protocols, in what is no pickle
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such router") from None
    except Exception:  # the unpickler raises almost anything on what is no checkpoint
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

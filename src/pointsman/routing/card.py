"""The model card of a router folder."""

from collections.abc import Mapping
from typing import Any

from pointsman.models.features import FeatureRecipe, Origin
from pointsman.routing.calibration import Calibration

_SEEN = {"conversation": "the whole conversation", "last-user": "the user's last turn"}


def model_card(config: Mapping[str, Any]) -> str:
    """The card in Markdown, from everything that a router's ``config.json`` says."""
    origin = Origin.from_json(config, "the router")
    recipe = FeatureRecipe.from_json(config["recipe"], "the router")
    calibration = Calibration.from_json(config["calibration"])
    labels, training = config["adapters"], config["training"]
    rows = "\n".join(f"| {label} | `{name}` |" for label, name in enumerate(labels))
    return f"""---
library_name: pointsman
base_model: {origin.base_model_id}
tags: [lora, router]
---
# Router of {len(labels)} adapters

Reads {"text" if origin.is_encoder else "images and text"} of {_SEEN[recipe.history]} with
`{origin.base_model_id}` (revision {origin.base_revision or "of a folder"}) after
{recipe.layers[-1]} layers ({recipe}) and predicts a label.

| label | adapter |
|---|---|
{rows}

- Validation: accuracy {config["best_acc"]:.4f}, loss {config["best_loss"]:.4f}.
- Chosen by the rule of one standard error (Breiman et al., 1984):
  {training.get("why", "?")}.
- Temperature {calibration.temperature:.3f}; abstains under {calibration.threshold:.3f} of the score
  {" + ".join(config["score"])}, which keeps at least {calibration.coverage:.0%} of validation.
- Training: {training.get("n_train", "?")} samples, seed {training.get("seed", "?")}.

`pointsman inspect` shows everything that is sealed in this folder.
"""

"""What makes a checkpoint's inputs: image processor, tokenizer and chat template."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pointsman.errors import ArtefactError
from pointsman.files import read_object
from pointsman.models.checkpoint import loading


def load_processor(folder: Path) -> tuple[Any, Any, str]:
    """What makes a checkpoint's inputs: image processor, tokenizer and chat template."""
    tokenizer = loading(folder, AutoTokenizer.from_pretrained)
    template = loading(folder, lambda path: chat_template(path, tokenizer))
    return loading(folder, Qwen2VLImageProcessorPil.from_pretrained), tokenizer, template


def chat_template(folder: Path, tokenizer: Any) -> str:
    """The chat template: the processor's if it has one, else the tokenizer's."""
    for name in ("chat_template.jinja", "chat_template.json"):
        if (path := folder / name).is_file():
            is_json = path.suffix == ".json"
            return str(read_object(path)["chat_template"]) if is_json else path.read_text("utf-8")
    if not isinstance(tokenizer.chat_template, str):
        raise ArtefactError(f"{folder}: no chat template; copy chat_template.jinja into it")
    return tokenizer.chat_template


def processor_settings(image_processor: Any) -> dict[str, Any]:
    """The settings that decide the pixels of the vision tower, and no others from the file."""
    names = (
        "size",
        "resample",
        "do_resize",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "patch_size",
        "temporal_patch_size",
        "merge_size",
    )
    settings = {name: getattr(image_processor, name) for name in names}
    size = settings["size"]
    settings["size"] = {key: size[key] for key in ("shortest_edge", "longest_edge")}
    settings["resample"] = int(settings["resample"])
    return settings

"""Tiny real text encoders: BERT, RoBERTa and a causal model, and a sentence-transformers folder."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
VERBS = {
    "calendar": ("pick", "day", "date", "month"),
    "claim-window": ("fill", "field", "claim", "amount"),
    "provider-select": ("book", "doctor", "provider", "visit"),
}
"""Words that tell an adapter's texts"""
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}


def make_encoder(folder: Path, kind: str = "bert", *, seed: int = 0, longest: int = 64) -> Path:
    """Writes a randomly initialised checkpoint: ``bert``, ``roberta`` or ``causal``."""
    tokenizer = write_tokenizer(folder, ends=kind != "causal")
    sizes = SMALL | {"vocab_size": len(tokenizer), "max_position_embeddings": longest}
    torch.manual_seed(seed)
    model: Any
    if kind == "bert":
        model = BertModel(BertConfig(**sizes))
    elif kind == "roberta":
        model = RobertaModel(RobertaConfig(**sizes | {"pad_token_id": 1}))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes | {"num_key_value_heads": 1}))
    with torch.no_grad():  # the initial scale of 0.02 would make every state nearly the same
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, *, ends: bool) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece of a few words; ``ends`` wraps texts in [CLS] and [SEP]."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?[]'-"
    words = [word for words in VERBS.values() for word in words]
    pieces = [*SPECIAL, *words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if ends:
        ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
        tokenizer.post_processor = processors.BertProcessing(
            ("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"])
        )
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if ends else {"bos_token": "[CLS]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", **marks
    )
    fast.save_pretrained(folder)
    return fast


def as_sentence_transformer(
    folder: Path,
    mode: str = "mean_tokens",
    *,
    modules: Sequence[str] = ("Transformer", "Pooling", "Normalize"),
    **settings: Any,
) -> Path:
    """Adds the files by which sentence-transformers reads a folder."""
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    listed = [
        {"idx": at, "name": str(at), "path": paths.get(name, f"{at}_{name}"), "type": f"x.y.{name}"}
        for at, name in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{name}": name == mode for name in ("cls_token", "mean_tokens", mode)}
    config = {"word_embedding_dimension": 32} | modes
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    return folder


def write_texts(
    folder: Path, per_adapter: int = 40, *, image: str | None = None
) -> dict[str, list[str]]:
    """One JSONL of texts for each adapter, told apart by their words."""
    rng, sources = random.Random(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for adapter, words in VERBS.items():
        lines = []
        for number in range(per_adapter):
            text = " ".join([*rng.sample(words, 2), f"{adapter[0]}{number}"])
            record = {"messages": [{"role": "user", "content": text}]}
            lines.append(json.dumps(record | ({"image": image} if image else {})))
        (folder / f"{adapter}.jsonl").write_text("\n".join(lines))
        sources[adapter] = [str(folder / f"{adapter}.jsonl")]
    return sources

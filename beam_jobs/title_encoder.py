"""A Hugging Face BERT folder -> sentence embeddings: mean of the last layer's tokens, L2-normalised.

TensorFlow is loaded by the constructor of TitleEncoder, not by the import of this module.
"""

import importlib.util
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError

FILES = ("config.json", "tokenizer.json", "model.safetensors")
APPROXIMATE_GELU = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True}
"""By the name of the activation in config.json."""
BATCH = 16
"""Texts embedded at once; larger batches gain a tenth, but a few titles would fill them with nothing."""
PACKAGE = "package:"
CURE = "Cure: set `prepare.titles.encoder` to such a folder, to a hub id such as org/name, or to package:NAME"


def find_encoder(spec: str) -> Path:
    """The folder of the BERT that `spec` names: a folder, `package:NAME`, or a hub id (then downloaded, and cached).

    Raises ConfigError when there is none, or when it is no BERT.
    """
    if spec.startswith(PACKAGE):
        folder = _in_package(spec.removeprefix(PACKAGE))
    elif Path(spec).is_dir():
        folder = Path(spec)
    elif spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        folder = _from_hub(spec)
    else:
        raise ConfigError(f"no folder {spec!r} to take the title encoder from. {CURE}")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"the title encoder at {folder} lacks {', '.join(missing)}. {CURE}")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") not in APPROXIMATE_GELU:
        raise ConfigError(
            f"the title encoder at {folder} is of type {config.get('model_type')!r} with {config.get('hidden_act')!r}, "
            f"but only `bert` with one of {sorted(APPROXIMATE_GELU)} is supported. {CURE}"
        )
    return folder


def _in_package(name: str) -> Path:
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"no Python package {name!r} to take the title encoder from. Cure: `make install`, or {CURE}")
    for root in found.submodule_search_locations:
        for config in sorted(Path(root).rglob("config.json")):
            if all((config.parent / file).is_file() for file in FILES):
                return config.parent
    raise ConfigError(f"the Python package {name!r} carries no folder with {', '.join(FILES)}. {CURE}")


def _from_hub(repository: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"could not fetch the title encoder {repository!r} from the Hugging Face hub ({reason}). Cure: check the "
            "name and the network, or download the folder elsewhere and set `prepare.titles.encoder` to its path"
        ) from None


class TitleEncoder:
    """Embeds texts with the BERT that `spec` names (see find_encoder)."""

    def __init__(self, spec: str, max_tokens: int = 64) -> None:
        folder = find_encoder(spec)
        self.max_tokens = max_tokens
        self._tokenizer = _load_tokenizer(folder, max_tokens)
        self.dim, self._embed = _load_bert(folder)

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts [n] -> (float32 [n, dim] of unit length, bool [n]: was it cut after `max_tokens` tokens).

        A text has the same vector, to the bit, whatever it shares the call with.
        """
        encoded = self._tokenizer.encode_batch(texts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for rows, tokens in _batches([encoding.ids for encoding in encoded]):
            vectors[rows] = self._embed(tokens).numpy()[: len(rows)]
        return vectors, np.array([bool(encoding.overflowing) for encoding in encoded], dtype=bool)


def _batches(encoded: list[list[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows [n], token ids int32 [BATCH, l]): texts of exactly l tokens, then rows of zeros.

    The last bits of a matrix product depend on its shape, so a batch of l tokens always has the same one.
    """
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for rows in np.split(same, range(BATCH, len(same), BATCH)):
            tokens = np.zeros((BATCH, length), dtype=np.int32)
            tokens[: len(rows)] = [encoded[row] for row in rows]
            yield rows, tokens


def _load_tokenizer(folder: Path, max_tokens: int) -> Any:
    # keras-hub's own tokenizer turns "Café" into [UNK]; the folder's does not.
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _load_bert(folder: Path) -> tuple[int, Any]:
    """(dim, function of token ids [b, l] -> [b, dim])."""
    from towers.keras import tf  # isort: skip - chooses tf.keras 2 before keras-hub imports TensorFlow
    import keras  # version 3, which keras-hub runs on
    import keras_hub

    backbone = keras_hub.models.BertBackbone.from_preset(str(folder))
    # keras-hub always takes the tanh approximation, which moves embeddings by 2e-4 where the folder means the exact.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    gelu = partial(keras.activations.gelu, approximate=APPROXIMATE_GELU[config.get("hidden_act", "gelu")])
    for layer in backbone.transformer_layers:
        layer._feedforward_intermediate_dense.activation = gelu

    # A function of any shape: the backbone's own `predict` pads every text to 256 tokens, and is far slower.
    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def embed(tokens: Any) -> Any:
        inputs = {"token_ids": tokens, "segment_ids": tf.zeros_like(tokens), "padding_mask": tf.ones_like(tokens)}
        hidden = backbone(inputs)["sequence_output"]  # (b, l, dim)
        return tf.math.l2_normalize(tf.reduce_mean(hidden, axis=1), axis=-1)

    return backbone.hidden_dim, embed

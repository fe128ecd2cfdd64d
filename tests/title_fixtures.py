"""A toy encoder in the place of the BERT, and catalogues with titles."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from beam_fixtures import random_log, run_through, write_log

from beam_jobs import title_embeddings
from beam_jobs.title_encoder import FILES
from pipeline.config import Config
from pipeline.tables import FieldSchema, Schema

SCHEMA = Schema((FieldSchema("name", "title"),))
DIM = 6


class ToyEncoder:
    """A unit vector drawn from each text's hash; a word is a token."""

    dim = DIM

    def __init__(self, spec: str, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        assert len(set(texts)) == len(texts)
        seeds = [int.from_bytes(hashlib.md5(text.encode()).digest()[:4], "big") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds])
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return vectors, np.array([len(text.split()) > self.max_tokens for text in texts])


def vector_of(text: str) -> np.ndarray:
    return ToyEncoder("", 3).encode([text])[0][0]


def toy_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Make the jobs find a toy encoder, whose three files lie in `folder`."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(name)
    monkeypatch.setattr(title_embeddings, "TitleEncoder", ToyEncoder)
    monkeypatch.setattr(title_embeddings, "find_encoder", lambda spec: folder)
    return folder


def write_titles(config: Config, titles: dict[str, str | None], schema: Schema = SCHEMA, seed: int = 17) -> None:
    """Tables whose catalogue has these titles by item id, and their vocabularies."""
    write_log(config, random_log(seed), schema, {"item_id": list(titles), "name": list(titles.values())})
    run_through(config, "vocabularies")

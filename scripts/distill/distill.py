"""Distils all-MiniLM-L6-v2 into a static table: one vector per token, no network to run.

Every token passes alone through the full model; the vectors are reduced by PCA, weighted by how rare
the token is (its rank stands for its frequency). Words of glossary.txt get the vector of the sentence
that explains them. Then the rows of tokens that our own texts (passages.txt: catalogue, rules, sayings)
have are moved so that the mean of a text's rows comes nearer to what the full model gives for the whole
text; a ridge keeps them near where they were. Last, rows are quantised to 8 bits with one scale each.
No question of the retrieval set takes part. The same inputs give the same bytes: see README.md.

Usage: python distill.py OUT [--dim 256] [--sif 5e-5] [--ridge 1]
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the order of additions, so the bytes, stays the same

import argparse
import hashlib
import pathlib
import struct

import numpy as np

import minilm
from compare import tokenizer

MAGIC = b"SEMEMB01"
HERE = pathlib.Path(__file__).parent


def glossary() -> dict[str, str]:
    words = {}
    for line in (HERE / "glossary.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            word, text = line.split(":", 1)
            words[word.strip()] = text.strip()
    return words


def tokens(model: minilm.MiniLM) -> list[str]:
    """The model's vocabulary in its order, without the places it leaves unused and the special tokens."""
    vocab = model.tokenizer.get_vocab()
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    return [t for t, _ in sorted(vocab.items(), key=lambda x: x[1])
            if t not in special and not t.startswith("[unused")]


def alone(model: minilm.MiniLM, words: list[str]) -> np.ndarray:
    """Each token between [CLS] and [SEP], the mean of the last layer."""
    vocab = model.tokenizer.get_vocab()
    ids = np.array([[vocab["[CLS]"], vocab[w], vocab["[SEP]"]] for w in words])
    return np.concatenate([model.hidden(ids[i:i + 256]).mean(1) for i in range(0, len(ids), 256)])


def reduce(vectors: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and the first principal directions, with the sign that makes their largest part positive."""
    x = vectors.astype(np.float64)
    mean = x.mean(0)
    _, axes = np.linalg.eigh((x - mean).T @ (x - mean))
    axes = axes[:, ::-1][:, :dim]
    sign = np.sign(axes[np.abs(axes).argmax(0), np.arange(dim)])
    return mean, axes * sign


def weights(n: int, sif: float) -> np.ndarray:
    """Smooth inverse frequency, with Zipf's law for the frequency: the vocabulary is sorted by it."""
    p = 1.0 / np.arange(2, n + 2)
    p /= p.sum()
    return sif / (sif + p)


def explain(model, words, table, mean, axes, size) -> tuple[list[str], np.ndarray]:
    """Gives every word of the glossary the vector of its sentence, as long as a token's vector."""
    entries = glossary()
    rows = (model.encode(list(entries.values())).astype(np.float64) * size - mean) @ axes
    at = {w: i for i, w in enumerate(words)}
    new = [i for i, w in enumerate(entries) if w not in at]
    for i, w in enumerate(entries):
        if w in at:
            table[at[w]] = rows[i]
    return words + [list(entries)[i] for i in new], np.concatenate([table, rows[new]])


def fit(model, words, table, axes, ridge: float) -> np.ndarray:
    """Least squares over our texts: the change of the used rows, with a penalty on its size, that brings
    each text's pooled unit vector nearest to the full model's."""
    texts = (HERE / "passages.txt").read_text(encoding="utf-8").splitlines() + list(glossary().values())
    want = model.encode(texts).astype(np.float64)
    want = (want - want.mean(0)) @ axes
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    cut, unknown = tokenizer(words)
    rows = [[i for i in cut.encode(t, add_special_tokens=False).ids if i != unknown] for t in texts]
    pooled = np.stack([table[r].sum(0) for r in rows])
    length = np.linalg.norm(pooled, axis=1)
    used = sorted({i for r in rows for i in r})
    column = {i: j for j, i in enumerate(used)}
    x = np.zeros((len(texts), len(used)))
    for k, r in enumerate(rows):
        for i in r:
            x[k, column[i]] += 1 / length[k]
    gram = x @ x.T
    penalty = ridge * np.trace(gram) / len(texts)
    change = x.T @ np.linalg.solve(gram + penalty * np.eye(len(texts)), want - pooled / length[:, None])
    table = table.copy()
    table[used] += change
    return table


def write(path: pathlib.Path, words: list[str], table: np.ndarray) -> None:
    scale = np.abs(table).max(1) / 127.0
    scale[scale == 0] = 1.0
    scale = scale.astype("<f4")
    rows = np.clip(np.rint(table / scale[:, None]), -127, 127).astype(np.int8)
    names = "\n".join(words).encode("utf-8")
    with open(path, "wb") as f:
        f.write(MAGIC)
        f.write(struct.pack("<III", len(words), table.shape[1], len(names)))
        f.write(names)
        f.write(scale.tobytes())
        f.write(rows.tobytes())


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--dim", type=int, default=256)
    args.add_argument("--sif", type=float, default=5e-5)
    args.add_argument("--ridge", type=float, default=1.0)
    args = args.parse_args()
    model = minilm.MiniLM()
    words = tokens(model)
    vectors = alone(model, words)
    mean, axes = reduce(vectors, args.dim)
    table = ((vectors - mean) @ axes) * weights(len(words), args.sif)[:, None]
    words, table = explain(model, words, table, mean, axes, np.linalg.norm(vectors, axis=1).mean())
    table = fit(model, words, table, axes, args.ridge)
    write(args.out, words, table)
    data = args.out.read_bytes()
    print(f"{args.out}: {len(words)} tokens x {args.dim}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()

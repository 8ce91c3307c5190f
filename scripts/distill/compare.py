"""The full model in Python beside semantos: the same passages, the same questions, the same measures.

EXPORT_DOCS=/tmp/docs.json go test ./kb/retrieve -run TestExportDocuments
python scripts/distill/compare.py /tmp/docs.json kb/retrieve/testdata/questions.jsonl [TABLE.bin]

With a table given, its static vectors are ranked too, read the way kb/embed reads them.
"""

import json
import os
import struct
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import minilm


def tokenizer(words: list[str]) -> tuple[Tokenizer, int]:
    """The model's tokenizer over other words, and the number it gives unknown ones. As tokenizer.json has
    it, but without special tokens: "[CLS]" in a text is text."""
    vocab = {w: i for i, w in enumerate(words)} | {"[UNK]": len(words)}
    cut = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    cut.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    cut.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return cut, len(words)


class Static:
    def __init__(self, path: str):
        data = open(path, "rb").read()
        n, dim, names = struct.unpack_from("<III", data, 8)
        words = data[20:20 + names].decode().split("\n")
        scale = np.frombuffer(data, "<f4", n, 20 + names)
        self.table = np.frombuffer(data, np.int8, n * dim, 20 + names + 4 * n).reshape(n, dim) * scale[:, None]
        self.tokenizer, self.unknown = tokenizer(words)

    def tokens(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [-1 if i == self.unknown else i for i in ids]

    def encode(self, texts: list[str]) -> np.ndarray:
        out = np.stack([self.table[[i for i in self.tokens(t) if i >= 0]].sum(0) for t in texts])
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def judge(order: list[str], grades: dict[str, int]) -> tuple[float, bool]:
    def gain(grade, place):
        return (2 ** grade - 1) / np.log2(place + 2)

    most = sum(gain(g, i) for i, g in enumerate(sorted(grades.values(), reverse=True)[:10]))
    ndcg = sum(gain(grades.get(d, 0), i) for i, d in enumerate(order[:10])) / most
    return ndcg, any(grades.get(d, 0) >= 2 for d in order[:3])


def ranked(model, docs, questions):
    texts = [p for d in docs for p in d["passages"]]
    owner = np.array([i for i, d in enumerate(docs) for _ in d["passages"]])
    scores = model.encode([q["question"] for q in questions]) @ model.encode(texts).T
    ids = np.array([d["id"] for d in docs])
    by_id = np.argsort(ids)
    for row in scores:
        top = np.full(len(docs), -1.0)
        np.maximum.at(top, owner, row)
        yield list(ids[by_id][np.argsort(-top[by_id], kind="stable")][:10])


def main() -> None:
    docs = json.load(open(sys.argv[1]))
    questions = [json.loads(line) for line in open(sys.argv[2])]
    rankers = {"MiniLM, full": minilm.MiniLM()}
    if len(sys.argv) > 3:
        rankers["static, " + os.path.basename(sys.argv[3])] = Static(sys.argv[3])
    parts = os.environ.get("PARTS", "tune,held").split(",")
    for name, model in rankers.items():
        judged = [(q["part"], *judge(o, q["grades"])) for q, o in zip(questions, ranked(model, docs, questions))]
        for part in parts:
            rows = [j for j in judged if j[0] == part]
            print(f"{part}  {name:32} nDCG@10 {np.mean([r[1] for r in rows]):.3f}  hit@3 {np.mean([r[2] for r in rows]):.3f}")


if __name__ == "__main__":
    main()

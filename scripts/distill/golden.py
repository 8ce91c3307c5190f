"""Writes kb/embed/testdata/golden.jsonl: tricky texts as the model's own tokenizer cuts them, and the
pooled vectors of a few, from the table as Python reads it.

Usage: python golden.py TABLE.bin OUT
"""

import json
import random
import sys

from compare import Static

TEXTS = [
    "connections reset when traffic spikes", "nf_conntrack: table full, dropping packet", "TCP: out of memory -- consider tuning tcp_mem",
    "net.core.somaxconn=4096", "block/vda/queue/read_ahead_kb", "kswapd0 eats 100% of a core!!!", "vm.max_map_count [65530] is too low",
    "", " ", "\t\n\r ", "?", "!?.,;", "a", "A", "...---...", "don't", "o'clock's", "e-mail@example.org", "http://127.0.0.1:9988/kb/search?q=a&b=c",
    "$100 <tag> a+b=c ^ ` | ~", "100°C ± 5 µs", "naïve café résumé Ångström", "ÀÉÎÕÜ ñ ç ß ẞ ø Œ", "İstanbul ıŞIK", "ΣΊΣΥΦΟΣ όσος", "Привет, мир! Ёлка й",
    "漢字かな交じり文とカタカナ", "中文分词test混合English", "한국어 문장", "ภาษาไทย", "עִבְרִית", "العَرَبِيَّة", "हिन्दी देवनागरी", "Tiếng Việt có dấu",
    "é e\u0301 ｅ́", "\u00a0nbsp\u2003em\u3000ideographic", "zero\u200bwidth\u200djoiner\ufeffbom", "soft\u00adhyphen", "nul\u0000inside", "bell\u0007tab\tnewline\nreturn\r",
    "\u2028line\u2029para\u0085nel", "replacement \ufffd sign", "emoji 😀 👩‍👩‍👧 🇪🇺 ☃", "“quotes” ‘single’ «guillemets» – — … ¿que? ¡no!", "،؛؟ 。、「」", "¶§†‡•‰′″※",
    "①②③ ½ ⅓ ² ³ Ⅳ", "ﬁ ﬂ ﬀ ligatures", "ＦＵＬＬＷＩＤＴＨ １２３", "x" * 99, "x" * 100, "x" * 101, "é" * 100, "word " * 40, "a" * 300 + " b",
    "antidisestablishmentarianism", "supercalifragilisticexpialidocious", "qwrtpsdfgh", "##ing ##", "[CLS] hello [SEP] [MASK] [UNK] [PAD] [unused1]", "##", "#", "a#b##c",
    "semi;colon:colon,comma.period", "tabs\tand  double  spaces", "MiXeD CaSe WoRdS", "C++ C# .NET F#", "1,234,567.89 -5e-10 0x1F 2^31", "2026-11-24T13:24:47Z",
    "tcp_rmem tcp_wmem rmem_max", "THP khugepaged kcompactd ksmd xruns jackd", "io_uring epoll inotify", "ǅ ǆ Ǆ ŉ ǰ", "ª º ʰ ᴬ", "\U00020000\U0002a6d6 \U0002f800", "㐀䶿 豈",
    "ㄅㄆ ゠ ・", "а́ й", "𝐛𝐨𝐥𝐝 𝒾𝓉", "٠١٢ ०१२", "\u0301leading mark", "a\u20dd", "ⓐ ☺︎", "l’été où", "x\u2060y", "\ue000private", "\u0378unassigned", "end\u001f",
]


def main() -> None:
    table = Static(sys.argv[1])
    words = {i: w for w, i in table.tokenizer.get_vocab().items()}
    draw = random.Random(5)
    alphabet = "abcxyzABC012 _-./:,'éßÖλЖ中あ한\u0301\u200b\u00a0\t😀"
    texts = TEXTS + ["".join(draw.choice(alphabet) for _ in range(draw.randint(1, 60))) for _ in range(300)]
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        for i, text in enumerate(texts):
            ids = table.tokens(text)
            line = {"text": text, "pieces": ["[UNK]" if t < 0 else words[t] for t in ids]}
            if i < 7:
                line["vector"] = [round(float(x), 6) for x in table.encode([text])[0]]
            f.write(json.dumps(line, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()

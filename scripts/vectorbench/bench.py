"""Search times of kb/vector beside faiss and hnswlib: same vectors, one thread, in turns.

Every round asks each contender the same questions, one at a time, in an order that changes from round
to round; a busy machine then hurts all alike. Printed are the median over the rounds and the
quartiles, in microseconds a question, with recall@10 against faiss' exact search.

    bench.py TESTBINARY DATA ROWS [--rounds 15] [--peers faiss,hnswlib] [--links 16] [--coder] [--curve]

TESTBINARY: go test -c -o TESTBINARY ./kb/vector; DATA: clustered or uniform.
"""

import argparse
import fcntl
import json
import os
import resource
import subprocess
import tempfile
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import faiss  # noqa: E402
import hnswlib  # noqa: E402
import numpy as np  # noqa: E402

DIM, K = 256, 10
WIDTHS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
WANT = 0.99


class Go:
    """The Go side: a test binary that answers one JSON line for each it reads."""

    def __init__(self, binary, folder):
        env = dict(os.environ, VECTORBENCH_DIR=folder, GOMAXPROCS="1")
        self.child = subprocess.Popen([binary, "-test.run", "^TestPeer$", "-test.timeout", "60m"], env=env,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **what):
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()
        for line in self.child.stdout:
            if line.startswith("PEER "):
                return json.loads(line[5:])
        raise SystemExit("the Go side ended")

    def build(self, kind):
        got = self.ask(Do="build", Kind=kind)
        print(f"build {kind}: {got['Seconds']:.1f} s, {got['MiB']:.0f} MiB beside the rows, "
              f"width for recall 0.995 and a half more: {got['Plan'] or 'none'}", flush=True)

    def search(self, kind, width):
        def run(questions, start):
            got = self.ask(Do="search", Kind=kind, Width=width, From=start, Count=len(questions))
            self.scored = got["Scored"]
            return got["Seconds"], got["Answers"]
        return run

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def python_side(search):
    """Times a function of one question; answers are kept as they come."""
    def run(questions, _start):
        begin = time.perf_counter()
        out = [search(questions[i:i + 1]) for i in range(len(questions))]
        return (time.perf_counter() - begin) / len(questions), [row[0].tolist() for row in out]
    return run


def at_width(set_width, width, run):
    def wrapped(questions, start):
        set_width(width)
        return run(questions, start)
    return wrapped


def timed_build(label, build):
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    build()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"build {label}: {time.perf_counter() - begin:.1f} s, {grown:.0f} MiB with its copy of the vectors", flush=True)


def peers(rows, which, links):
    """The other indexes by name; graphs come with their widths still open."""
    flat = faiss.IndexFlatIP(DIM)
    flat.add(rows)
    fixed = {"faiss flat": python_side(lambda q: flat.search(q, K)[1])}
    graphs = {}
    if "faiss" in which:
        index = faiss.IndexHNSWFlat(DIM, links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        timed_build("faiss HNSW", lambda: index.add(rows))
        graphs["faiss HNSW"] = (lambda w: setattr(index.hnsw, "efSearch", w), python_side(lambda q: index.search(q, K)[1]))
    if "hnswlib" in which:
        other = hnswlib.Index("ip", DIM)
        other.init_index(len(rows), M=links, ef_construction=200)
        other.set_num_threads(1)
        timed_build("hnswlib", lambda: other.add_items(rows, num_threads=1))
        graphs["hnswlib"] = (other.set_ef, python_side(lambda q: other.knn_query(q, K, num_threads=1)[0]))
    return flat, fixed, graphs


def recall(answers, truth):
    return float(np.mean([len(set(a) & set(t)) / K for a, t in zip(answers, truth)]))


def first_width(label, make, questions, truth, curve):
    """The narrowest width that reaches WANT, or the widest tried; prints what it passes."""
    best = None
    for width in WIDTHS:
        seconds, answers = make(width)(questions, 0)
        got = recall(answers, truth)
        if curve:
            print(f"curve {label} width {width}: recall {got:.4f}, {seconds * 1e6:.0f} us", flush=True)
        if best is None and got >= WANT:
            best = width
            if not curve:
                break
    return best


def rounds(contenders, questions, truth, count, each):
    times = {label: [] for label in contenders}
    found = {label: [] for label in contenders}
    labels = list(contenders)
    for turn in range(count):
        start = turn * each % (len(questions) - each + 1)
        part, want = questions[start:start + each], truth[start:start + each]
        for label in labels[turn % len(labels):] + labels[:turn % len(labels)]:
            contenders[label](part[:3], start)  # warm its caches
            seconds, answers = contenders[label](part, start)
            times[label].append(seconds * 1e6)
            found[label].append(recall(answers, want))
    for label in labels:
        low, mid, high = np.percentile(times[label], [25, 50, 75])
        print(f"{label:24s} {mid:9.1f} us ({low:.1f} to {high:.1f})  recall {np.mean(found[label]):.4f}", flush=True)
    reference = np.array(times["faiss flat"])
    for label in labels:
        low, mid, high = np.percentile(np.array(times[label]) / reference, [25, 50, 75])
        print(f"  of faiss flat, paired: {label:20s} {mid:.3f} ({low:.3f} to {high:.3f})", flush=True)
    if any(l.startswith("faiss HNSW") for l in labels) and any(l.startswith("semantos graph") for l in labels):
        a = next(l for l in labels if l.startswith("semantos graph"))
        b = next(l for l in labels if l.startswith("faiss HNSW"))
        low, mid, high = np.percentile(np.array(times[a]) / np.array(times[b]), [25, 50, 75])
        print(f"  of faiss HNSW, paired: {a:20s} {mid:.3f} ({low:.3f} to {high:.3f})", flush=True)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("binary")
    args.add_argument("data", choices=["clustered", "uniform"])
    args.add_argument("rows", type=int)
    args.add_argument("--rounds", type=int, default=15)
    args.add_argument("--each", type=int, default=100, help="questions a round")
    args.add_argument("--queries", type=int, default=500)
    args.add_argument("--peers", default="faiss,hnswlib")
    args.add_argument("--links", type=int, default=16, help="M of the peers")
    args.add_argument("--coder", action="store_true", help="measure coder/hnsw too (slow)")
    args.add_argument("--curve", action="store_true", help="print recall and time at every width")
    args.add_argument("--lock", help="file to lock while searches are timed")
    o = args.parse_args()
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, VECTORBENCH_DIR=folder, VECTORBENCH_DATA=f"{o.data} {o.rows} {o.queries}")
        subprocess.run([o.binary, "-test.run", "^TestWriteVectors$"], env=env, check=True, stdout=subprocess.DEVNULL)
        rows, questions = (np.fromfile(os.path.join(folder, f), "<f4").reshape(-1, DIM).copy() for f in ("rows.f32", "queries.f32"))
        faiss.normalize_L2(rows)
        faiss.normalize_L2(questions)
        go = Go(o.binary, folder)
        print(f"== {o.data}, {o.rows} rows of {DIM}, {len(questions)} questions, k {K}, one thread", flush=True)
        flat, contenders, graphs = peers(rows, o.peers.split(","), o.links)
        truth = flat.search(questions, K)[1].tolist()
        begin = time.perf_counter()
        flat.search(questions, K)
        print(f"faiss flat, {len(questions)} questions in one call: {(time.perf_counter() - begin) / len(questions) * 1e6:.1f} us each")
        for kind in ("exact", "float", "vek"):
            contenders[f"semantos {kind}"] = go.search(kind, 0)
        go.build("graph")
        if o.lock:
            handle = open(o.lock, "w")
            fcntl.flock(handle, fcntl.LOCK_EX)
        makers = {"semantos graph": lambda w: go.search("graph", w)}
        for label, (set_width, run) in graphs.items():
            makers[label] = lambda w, s=set_width, r=run: at_width(s, w, r)
        for label, make in makers.items():
            width = first_width(label, make, questions, truth, o.curve)
            if width is None:
                print(f"{label}: no width up to {WIDTHS[-1]} reaches recall {WANT}", flush=True)
            else:
                contenders[f"{label} {width}"] = make(width)
            if label == "semantos graph" and width:
                make(width)(questions, 0)
                print(f"semantos graph {width} scores {go.scored:.0f} rows a question", flush=True)
        rounds(contenders, questions, truth, o.rounds, o.each)
        if o.coder:
            go.build("coder")
            for part in (64, 32, 16, 8, 4, 2, 1):
                width = max(K, o.rows // part)
                few = min(len(questions), 50)
                seconds, answers = go.search("coder", width)(questions[:few], 0)
                print(f"coder/hnsw fetch {width}: recall {recall(answers, truth[:few]):.4f}, {seconds * 1e6:.0f} us", flush=True)
        go.close()


if __name__ == "__main__":
    main()

"""Kill `etascope find` at random points and continue it: is the finding the same to the bit?

python benchmarks/interrupted.py [KILLS]        # default 20; writes benchmarks/results/interrupted.json
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

VARY = ("wall_s", "eval_s")  # seconds are the only keys that may differ


def command(out, engine):
    return [
        sys.executable,
        "-m",
        "etascope",
        "find",
        "digits",
        "--seed",
        "3",
        "--engine",
        engine,
        "--out",
        str(out),
    ]


def finding(out):
    data = json.loads((Path(out) / "finding.json").read_text())
    return {k: v for k, v in data.items() if k not in VARY}


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    rng = random.Random(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        whole, seconds = {}, {}
        for engine in ("loop", "lanes"):
            start = time.perf_counter()
            subprocess.run(command(Path(folder, engine), engine), check=True, **quiet)
            whole[engine], seconds[engine] = finding(Path(folder, engine)), time.perf_counter() - start
        while len(rows) < kills:
            engine = ("loop", "lanes")[len(rows) % 2]
            out = Path(folder, f"{engine}-{rng.random()}")
            at = rng.uniform(0.3, 1.0) * seconds[engine]
            process = subprocess.Popen(command(out, engine), **quiet)
            try:
                process.wait(at)
                continue  # it was done before its time: drawn again
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            journal = out / "journal.jsonl"
            lines = len(journal.read_bytes().splitlines()) if journal.exists() else 0
            subprocess.run(command(out, engine), check=True, **quiet)
            rows.append(
                {"engine": engine, "killed_after_s": at, "journal_lines": lines, "same": finding(out) == whole[engine]}
            )
            print(rows[-1], flush=True)
    same = sum(r["same"] for r in rows)
    print(f"{same} of {kills} continued findings are identical")
    result = {
        "date": str(date.today()),
        "versions": whole["loop"]["versions"],
        "same": same,
        "kills": kills,
        "rows": rows,
    }
    Path(__file__).parent.joinpath("results/interrupted.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(same != kills)


if __name__ == "__main__":
    main()

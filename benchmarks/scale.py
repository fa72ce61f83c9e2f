"""1,024 lanes in one sweep: seconds and memory as lanes grow, and what it takes to write and open the record.

    python benchmarks/scale.py          # writes benchmarks/results/scale.json

`digits`, 60 steps, lrs evenly spaced in log from 1e-5 to 10, as 128, 256, 512 and 1,024 lanes of one sweep, each in a
fresh process of its own, so that its peak memory is its own. The report is made from the record as it is read back.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

LANES, STEPS = (128, 256, 512, 1024), 60


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(do, *arguments):
    """What it gives, and the seconds that it took."""
    start = time.perf_counter()
    given = do(*arguments)
    return given, time.perf_counter() - start


def measure(n_lanes):
    import torch

    import etascope as eta
    from etascope.workloads import get

    torch.set_num_threads(1)
    task = replace(get("digits"), horizon=STEPS)
    before = peak_mib()
    sweep, sweep_s = timed(lambda: eta.sweep(task, lrs=np.geomspace(1e-5, 10, n_lanes), seeds=(0,), engine="lanes"))
    after = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _, save_s = timed(sweep.save, path / "sweep.json")
        record, load_s = timed(eta.load, path / "sweep.json")
        page, report_s = timed(eta.report, record, path / "report.html")
        sizes = {"record_mib": (path / "sweep.json").stat().st_size / 2**20, "html_kib": page.stat().st_size / 1024}
    return {
        "lanes": n_lanes,
        "chunk": sweep.engine.chunk,
        "sweep_s": sweep_s,
        "ms_per_lane": 1000 * sweep_s / n_lanes,
        "start_mib": before,
        "peak_mib": after,
        "save_s": save_s,
        "load_s": load_s,
        "report_s": report_s,
        **sizes,
    }


def main():
    from etascope.finder.session import versions

    rows = []
    for n_lanes in LANES:
        said = subprocess.run([sys.executable, __file__, str(n_lanes)], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(r := json.loads(said.stdout))
        print(f"{n_lanes:5} lanes, {r['chunk']} at once: {r['sweep_s']:5.1f} s, {r['ms_per_lane']:4.1f} ms a lane, "
              f"{r['peak_mib']:4.0f} MiB ({r['start_mib']:.0f} before);  record {r['record_mib']:4.1f} MiB: written in "
              f"{r['save_s']:.2f} s, read in {r['load_s']:.2f} s;  report in {r['report_s']:.2f} s, "
              f"{r['html_kib']:.0f} KiB", flush=True)  # fmt: skip
    half, whole = rows[-2:]
    grown = {key: whole[key] / half[key] for key in ("sweep_s", "record_mib")}
    opened = whole["load_s"] + whole["report_s"]
    print(f"twice the lanes: {grown['sweep_s']:.2f} times the seconds, {grown['record_mib']:.2f} times the record, "
          f"{whole['peak_mib'] - half['peak_mib']:.0f} MiB more; read and drawn in {opened:.2f} s")  # fmt: skip
    result = {"date": str(date.today()), "cores": 2, "versions": versions(), "steps": STEPS, "rows": rows}
    Path(__file__).parent.joinpath("results/scale.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        main()

"""WIP"""
import argparse, sys, pathlib
from diagnosis_runs import *
if __name__ == "__main__":
    p = argparse.ArgumentParser(); p.add_argument("half"); p.add_argument("--rounds", type=int, nargs="+", default=[0]); p.add_argument("--seconds", type=float, default=1e9); p.add_argument("--only", nargs="*")
    a = p.parse_args()
    names = a.only or (FIT if a.half == "fit" else SCORED)
    for r in a.rounds:
        for n in names:
            make(list(plan(n, r)), pathlib.Path("/tmp/diag_cache")/a.half, a.seconds)
            print(r, n, flush=True)

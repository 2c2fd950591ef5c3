#!/usr/bin/env bash
# joblib 1.6.0 with dask distributed 2026.8.0: Parallel(n_jobs=1, backend="dask") runs jobs at once on every worker of the cluster.
#
# With joblib's own engines n_jobs bounds how many jobs run at once. On Dask the number is taken without a word and left out: a
# cluster of two workers runs two jobs at a time for n_jobs=1. Whoever wants fewer starts a cluster of fewer workers.
#
# Seen on 2026-11-27, Python 3.11, Linux x86_64:
#   loky, n_jobs=1: at most 1 at once
#   dask, n_jobs=1: at most 2 at once
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet joblib==1.6.0 distributed==2026.8.0
cat > "$folder/jobs.py" <<'PYTHON'
import time

import joblib
from distributed import Client, LocalCluster


def span(_number: int) -> tuple[float, float]:
    start = time.time()
    time.sleep(0.5)
    return start, time.time()


def at_once(backend: str) -> int:
    with joblib.parallel_config(backend=backend, n_jobs=1):
        spans = joblib.Parallel(batch_size=1)(joblib.delayed(span)(i) for i in range(8))
    return max(sum(start <= when < stop for start, stop in spans) for when, _ in spans)


if __name__ == "__main__":
    loky = at_once("loky")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        dask = at_once("dask")
    print(f"loky, n_jobs=1: at most {loky} at once")
    print(f"dask, n_jobs=1: at most {dask} at once")
    assert loky == 1
    assert dask == 2, "joblib now bounds the jobs on Dask"
PYTHON
(cd "$folder" && venv/bin/python jobs.py)

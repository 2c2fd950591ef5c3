#!/usr/bin/env bash
# ray 2.60.0 below joblib 1.6.0: results cannot be taken as they come.
#
# joblib.Parallel(return_as="generator") works on loky, on threads and on Dask. On Ray's engine (ray.util.joblib.register_ray) it is
# refused when Parallel is made, so a program that takes the engine as a setting fails with one of its settings alone. Ray's own
# remote functions give results one by one.
#
# Seen on 2026-11-27, Python 3.11, Linux x86_64:
#   loky: [0, 1, 2]
#   ray: ValueError, does not support return_as=generator
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet joblib==1.6.0 ray==2.60.0
(cd "$folder" && venv/bin/python - <<'PYTHON'
import joblib
import ray
from ray.util.joblib import register_ray

register_ray()
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")


def results(backend: str) -> list[int]:
    with joblib.parallel_config(backend=backend, n_jobs=1):
        return list(joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-i) for i in range(3)))


print("loky:", results("loky"))
try:
    print("ray:", results("ray"))
except ValueError as error:
    assert "does not support return_as=generator" in str(error), error
    print("ray: ValueError, does not support return_as=generator")
else:
    raise SystemExit("joblib on Ray now gives a generator")
PYTHON
)

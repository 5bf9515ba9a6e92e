"""Runs Triton's kernels on the emulator, in a process of its own: a question and an answer in JSON on each line."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter

import torch

from . import cases, on_triton


def answer(question: dict, emulation: on_triton.Emulation) -> dict:
    """What the kernels are like in a case."""
    emulation.findings.clear()
    emulation.launches.clear()
    emulation.order = question["order"]
    gone = question["removed"]  # places of barriers
    emulation.removed = lambda site: f"{site.place.file}:{site.place.line}" in gone
    kernels = importlib.import_module("qplayer_gpu.kernels.triton")
    kernels.launch.COMPILED = {"enable_fp_fusion": question["fused"]}
    try:
        if question["case"] in cases.ADMM:
            wrong = cases.wrong_iterations(question["case"], question["n"], question["batch"])
        else:
            wrong = cases.complaints(cases.differences(kernels, question["case"], question["n"], question["batch"]))
    except RuntimeError as error:  # of Triton, where a launch was stopped
        wrong = [str(error)]
    counts = sum((launch.counts for launch in emulation.launches), Counter())
    kinds = Counter()
    for (_, kind), count in counts.items():
        kinds[kind] += count
    return {"wrong": wrong, "findings": list(map(str, emulation.findings)), "counts": kinds}


def main() -> None:
    """Answers until there are no more questions."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # fills memory that torch does not initialize with NaN
    emulation = on_triton.emulate()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), emulation)), flush=True)


if __name__ == "__main__":
    main()

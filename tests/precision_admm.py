"""The mean iterations of ADMM to 1e-4 and the least tolerance it reaches, by family: a table of docs/choosing.md.

python tests/precision_admm.py
"""

from __future__ import annotations

import torch
from precision import FAMILIES

import qplayer_gpu as qp

TOLERANCES = [10.0**-k for k in range(2, 9)]
COUNTED = 4  # the power of ten of the tolerance whose iterations are shown


def cells(args) -> list[str]:
    """Of each precision the iterations, and what is reached."""
    found: list[str] = []
    for precision in ("float64", "mixed"):
        iterations, reached = "-", torch.inf
        for power, eps in enumerate(TOLERANCES, 2):
            settings = qp.Settings(eps_abs=eps, method="admm", precision=precision, max_iter=4000)
            sol = qp.solve_qp(**args, settings=settings)
            if not (sol.status <= qp.Status.SOLVED_CLOSEST_FEASIBLE).all():
                break
            reached = eps
            if power == COUNTED:
                iterations = f"{sol.info.iterations.double().mean():.0f}"
        found += [iterations, f"{reached:.0e}"]
    return found


def main() -> None:
    """One line for each family."""
    print("| family | float64 to 1e-4 | reaches | float32 to 1e-4 | reaches |")
    print("|---|---|---|---|---|")
    for name, make in FAMILIES.items():
        print(f"| {name} | {' | '.join(cells({'H': None, **make()}))} |", flush=True)


if __name__ == "__main__":
    main()

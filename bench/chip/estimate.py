"""What the Triton kernels would take on an H100, estimated from their machine code. Nothing here is measured.

    python -m bench.chip.estimate

writes results/estimate.csv: for each size and version of Triton, the time of a Newton step and of a QP when the whole
card is busy, by the counts of triton.csv, beside the floors that no program could beat; prints the tables of
docs/kernels.md, which says what is counted.

It knows nothing of waits for memory, barriers and shuffles, so expect more; nor of branches not taken and rows that are
not active, so expect less. The Newton steps of a QP are the mean of the reference's on random feasible problems.
"""

from functools import cache
from pathlib import Path

import torch

import qplayer_gpu

from .. import families, floor, table
from ..table import Line

RESOURCES = Path(__file__).with_name("triton.csv")
RESULTS = Path(__file__).parents[1] / "results" / "estimate.csv"
MULTIPROCESSORS, CLOCK = 132, 1.7e9  # of an H100 SXM, under load
ISSUE, DOUBLE = 4, 2  # instructions of a warp in a cycle; 64 units of double precision for 32 lanes
REGISTERS, GRANULE, PROGRAMS = 65536, 256, 32  # of a multiprocessor; given to a warp in such portions; at most
DEPENDENT = 4  # cycles before an instruction that waits for the last one
FLOPS, BANDWIDTH = 34e12, 3.35e12  # double precision without tensor cores; bytes/s of memory
BATCH = 256
SHOWN = "3.7.1"  # the version that constraints.txt pins


def main() -> None:
    """Writes the table and prints it, and the variants that spill."""
    torch.set_num_threads(1)
    resources = table.read(RESOURCES)
    lines = [estimate(row) for row in resources if row["kernel"] == "forward" and row["architecture"] == "90"]
    table.write(RESULTS, lines[0], lines)
    columns = [name for name in lines[0] if name != "triton"]
    shown = table.markdown(columns, ([x[name] for name in columns] for x in lines if x["triton"] == SHOWN))
    print(f"Triton {SHOWN}, sm_90:\n\n{shown}\n\nStack, bytes of a thread:\n\n{spills(resources)}")


def spills(resources: list[Line]) -> str:
    """The variants that spill on some version of Triton, with their stacks."""
    versions = sorted({row["triton"] for row in resources})
    names = ("kernel", "precision", "n", "m", "architecture")
    stacks: dict[tuple[str, ...], Line] = {}
    for row in resources:
        stacks.setdefault(tuple(row[name] for name in names), {})[row["triton"]] = row["stack"]
    rows = [[*variant, *map(stack.get, versions)] for variant, stack in stacks.items() if {*stack.values()} != {"0"}]
    return table.markdown([*names[:-1], "sm", *versions], rows)


def estimate(row: Line) -> Line:
    """The estimate of one variant, in microseconds."""
    n, m, warps = int(row["n"]), int(row["m"]), int(row["warps"])
    steps, share = newton_steps(n)
    issued, double = (share * int(row[k]) + (1 - share) * int(row[f"kept_{k}"]) for k in ("instructions", "double"))
    programs = resident(int(row["registers"]), warps)
    cycles = {"issue": issued * warps / ISSUE, "double": double * warps / DOUBLE}
    cycles["latency"] = issued * DEPENDENT / programs
    times = {f"step_{name}_us": count / (CLOCK * MULTIPROCESSORS) for name, count in cycles.items()}
    times["qp_us"] = steps * max(times.values())
    times["qp_flops_floor_us"] = steps * flops(n, m, share) / FLOPS
    times["qp_bytes_floor_us"] = bytes_of(n, m) / BANDWIDTH
    known = {k: row[k] for k in ("triton", "precision", "n", "m", "warps", "registers")}
    known |= {k: row[k] for k in ("instructions", "kept_instructions", "double", "kept_double")}
    known |= {"programs": str(programs), "newton_steps": f"{steps:.1f}", "factored": f"{share:.2f}"}
    return known | {name: f"{1e6 * seconds:.3g}" for name, seconds in times.items()}


def resident(registers: int, warps: int) -> int:
    """How many programs the registers of a multiprocessor hold."""
    portion = -(-registers * 32 // GRANULE) * GRANULE
    return min(PROGRAMS, REGISTERS // portion // warps)


def flops(n: int, m: int, share: float) -> float:
    """Of the mean Newton step with all m rows active, n of them bounds.

    K and its Cholesky factor in this share of the steps, half of each as they are symmetric; its solve, two products
    with H, two with G, three with G'.
    """
    rows = m - n
    return share * (rows * n * n + n**3 / 3) + 2 * n * n + 4 * n * n + 10 * rows * n


def bytes_of(n: int, m: int) -> float:
    """Of the data and the answer of a problem, each once, in double precision."""
    return 8 * (n * n + (m - n) * n + 2 * n + 4 * m)


@cache
def newton_steps(n: int) -> tuple[float, float]:
    """The mean over random feasible problems, and the share of the steps whose K is not that of the step before."""
    return floor.count(families.mixed(BATCH, n), qplayer_gpu.Settings())


if __name__ == "__main__":
    main()

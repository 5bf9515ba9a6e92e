"""How trainings in several processes end, and what trainings left behind, to be compared."""

import torch
from torch.utils import _pytree as pytree


def finish(process):
    """The output of a process that ends well."""
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    return output


def states(folder):
    """All that each checkpoint in a folder holds, but for the seconds."""
    found = {path.relative_to(folder): torch.load(path) for path in sorted(folder.rglob("checkpoint.pt"))}
    for state in found.values():
        for row in state["training"]["log"]:
            del row["seconds"]
    assert found
    return found


def same(a, b):
    (leaves, spec), (others, other_spec) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    pairs = zip(leaves, others, strict=True)
    return spec == other_spec and all(torch.equal(s, t) if isinstance(s, torch.Tensor) else s == t for s, t in pairs)

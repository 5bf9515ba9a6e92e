"""Moreau's dual active set method, on the CPU."""

from __future__ import annotations

from typing import Any

from . import moreau


class Adapter(moreau.Adapter):
    """As Moreau, by its method for small QPs."""

    devices = ("cpu",)
    method = "active_set"

    def settings(self, moreau: Any) -> dict[str, Any]:
        return {"active_set_settings": moreau.ActiveSetSettings(primal_tol=self.task.accuracy)}

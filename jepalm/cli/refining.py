"""`--refine`, `--order` and `--entropy-bound`: how a passage is refined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.generation.refinement import Order, Refining


def refining_of(passes: int, order: str | None, entropy_bound: float | None) -> Refining | None:
    """What the flags ask for; None for one pass.

    Raises:
        UsageError: there is no such order, or a flag does nothing beside the others.
    """
    from jepalm.errors import UsageError, nearest
    from jepalm.generation.refinement import ENTROPY_BOUND, ORDERS, Refining

    if order is not None and order not in ORDERS:
        raise UsageError(f"unknown order {order}", nearest(order, ORDERS) or f"one of {', '.join(ORDERS)}")
    if passes == 1 and (order is not None or entropy_bound is not None):
        flag = "--order" if order is not None else "--entropy-bound"
        raise UsageError(f"{flag} does nothing with one pass", "give more passes, such as 8")
    if entropy_bound is not None and order != "entropy":
        raise UsageError("--entropy-bound goes with --order entropy", "leave it out, or change the order")
    if passes == 1:
        return None
    known: dict[str, Order] = {name: name for name in ORDERS}
    bound = ENTROPY_BOUND if entropy_bound is None else entropy_bound
    return Refining(passes, known[order or "random"], bound)

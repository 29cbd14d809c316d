"""`--refine`, `--passes`, `--order` and `--entropy-bound`: how passages are refined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.generation.refinement import Order, Refining


def refining_of(passes: int, order: str | None, entropy_bound: float | None) -> Refining | None:
    """What the flags ask for; None for one pass.

    Raises:
        UsageError: there is no such order, or a flag does nothing beside the others.
    """
    from jepalm.errors import UsageError
    from jepalm.generation.refinement import ENTROPY_BOUND, Refining

    known = known_order(order)
    if passes == 1 and (order is not None or entropy_bound is not None):
        flag = "--order" if order is not None else "--entropy-bound"
        raise UsageError(f"{flag} does nothing with one pass", "give more passes, such as 8")
    if entropy_bound is not None and order != "entropy":
        raise UsageError("--entropy-bound goes with --order entropy", "leave it out, or change the order")
    if passes == 1:
        return None
    bound = ENTROPY_BOUND if entropy_bound is None else entropy_bound
    return Refining(passes, known, bound)


def numbers_of_passes(passes: str | None, order: str | None) -> list[int]:
    """The numbers above 1 of a list with commas, ascending; one pass is what the model does anyway.

    Raises:
        UsageError: it is no such list, or there is an order and nothing to refine.
    """
    from jepalm.errors import UsageError

    refined = [number for number in whole_numbers("--passes", passes) if number > 1]
    if order is not None and not refined:
        raise UsageError("--order does nothing with one pass", "give more --passes, such as 4,8")
    return refined


def whole_numbers(flag: str, text: str | None) -> list[int]:
    """The numbers of a list with commas, each once, ascending.

    Raises:
        UsageError: it is no such list.
    """
    from jepalm.errors import UsageError

    words = text.split(",") if text is not None else []
    if any(not word.strip().isdecimal() or int(word) < 1 for word in words):
        raise UsageError(f"{flag} {text} is no list of whole numbers", "give some such as 4,8,16")
    return sorted({int(word) for word in words})


def known_order(order: str | None) -> Order:
    """An order by its name; `random` where none is given.

    Raises:
        UsageError: there is none of that name.
    """
    from jepalm.errors import UsageError, nearest
    from jepalm.generation.refinement import ORDERS

    for name in ORDERS:
        if name == (order or "random"):
            return name
    raise UsageError(f"unknown order {order}", nearest(order or "", ORDERS) or f"one of {', '.join(ORDERS)}")

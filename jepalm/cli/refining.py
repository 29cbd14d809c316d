"""`--refine`, `--passes`, `--order`, `--entropy-bound` and `--keep`: how passages are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jepalm.generation.refine import Order, Refining


def refining_of(passes: int, order: str | None, entropy_bound: float | None) -> Refining | None:
    """What the flags ask for; None for one pass.

    Raises:
        UsageError: there is no such order, or a flag does nothing beside the others.
    """
    from jepalm.errors import UsageError
    from jepalm.generation.refine import ENTROPY_BOUND, Refining

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

    words = passes.split(",") if passes is not None else []
    if any(not word.strip().isdecimal() or int(word) < 1 for word in words):
        raise UsageError(f"--passes {passes} is no list of whole numbers", "give some such as 4,8,16")
    refined = sorted({int(word) for word in words} - {1})
    if order is not None and not refined:
        raise UsageError("--order does nothing with one pass", "give more --passes, such as 4,8")
    return refined


def kept_of(flag: str, text: str | None) -> list[float]:
    """How much of a passage is kept: whole numbers of tokens, or probabilities below 1, with commas.

    Raises:
        UsageError: it is no such list.
    """
    from jepalm.errors import UsageError

    try:
        found = {float(word) for word in (text.split(",") if text is not None else [])}
    except ValueError:
        found = {0.0}
    if not all(0 < keep < 1 or (keep >= 1 and keep.is_integer()) for keep in found):
        message = f"{flag} {text} is neither a number of tokens nor a probability below 1"
        raise UsageError(message, "give some such as 4,2,0.5")
    return sorted(found)


def known_order(order: str | None) -> Order:
    """An order by its name; `random` where none is given.

    Raises:
        UsageError: there is none of that name.
    """
    from jepalm.errors import UsageError, nearest
    from jepalm.generation.refine import ORDERS

    for name in ORDERS:
        if name == (order or "random"):
            return name
    raise UsageError(f"unknown order {order}", nearest(order or "", ORDERS) or f"one of {', '.join(ORDERS)}")

"""Contact plans as text, in every format that a file of one can have."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace
from pathlib import Path

from marsnet.errors import InputError
from marsnet.plan.files import as_format, read_plan, write_plan_to
from marsnet.plan.types import ContactPlan


def read_plan_text(body: bytes, form: str, epoch: str | None) -> ContactPlan:
    """A plan from a request's body.

    Raises:
        InputError: with line, value and remedy.
    """
    chosen = as_format(form)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan"
        file.write_bytes(body)
        try:
            return read_plan(file, chosen, epoch=epoch)
        except InputError as error:
            # The file is nobody's: only its lines are.
            raise InputError(error.problem.replace(str(file), "plan"), remedy=error.remedy, line=error.line) from None


def plan_text(plan: ContactPlan, form: str) -> str:
    """A plan as text.

    Raises:
        InputError: there is no such format.
    """
    out = io.StringIO()
    write_plan_to(plan, out, as_format(form))
    return out.getvalue()


def extended(plan: ContactPlan, more: ContactPlan) -> ContactPlan:
    """A plan with the contacts and ranges of another one added.

    Raises:
        InputError: their epochs differ, or they give one node two numbers.
    """
    if more.epoch != plan.epoch:
        raise InputError(f"the epoch is {more.epoch}", remedy=f"state times since {plan.epoch}, as the plan here does")
    for name, number in more.nodes.items():
        if plan.nodes.get(name, number) != number:
            raise InputError(
                f"node {name!r} has number {number}", remedy=f"give it {plan.nodes[name]}, as in the plan here"
            )
    return replace(
        plan,
        start=min(plan.start, more.start),
        end=max(plan.end, more.end),
        nodes={**plan.nodes, **more.nodes},
        contacts=tuple(sorted({*plan.contacts, *more.contacts}, key=lambda c: (c.start, c.source, c.target))),
        ranges=tuple(sorted({*plan.ranges, *more.ranges}, key=lambda r: (r.start, r.source, r.target))),
        _ranges={},
    )

"""Prints `why` and `what-if` for people: one sentence first, then the table, then what would change it."""

from __future__ import annotations

from rich.markup import escape

from ..planner.explanation import Explanation, NodeExplanation, WhatIf
from .output import Column, console, table


def print_why(told: Explanation) -> None:
    """The answer, who decided, and each node: why it was chosen, ranked or refused."""
    where = f" on {told.node}" if told.node else ""
    console.print(f"[bold]{told.application}/{told.component}[/]{where}: {escape(told.summary)}")
    deciders = ", ".join(f"{one.name} (weight {one.weight:g})" for one in told.policies)
    console.print(f"[dim]decided by {deciders}; snapshot {told.version}[/]")
    for one in told.policies:
        if one.fault:
            console.print(f"[yellow]{one.name} did not decide: {escape(one.fault)}[/]")
    console.print()
    columns = [
        Column("NODE"),
        Column("RANK", "right"),
        Column("RUNS", "right"),
        Column("SCORE", "right"),
        Column("SCORES / WHY NOT"),
    ]
    table("", columns, [_row(node) for node in told.nodes], empty="the slice has no nodes yet")
    if told.counts and not told.node:
        counted = ", ".join(f"{one.constraint} {one.nodes}" for one in told.counts)
        console.print(f"\n[dim]nodes that fail each constraint: {escape(counted)}[/]")
    hints = [(node.node, node.change) for node in told.nodes if node.change and not node.chosen]
    for name, change in hints[:8]:
        console.print(f"[cyan]to get one onto {name}:[/] {escape(change)}")


def _row(node: NodeExplanation) -> tuple[str, ...]:
    if not node.feasible:
        reasons = "\n".join(f"[red]{one.constraint}[/]: {escape(one.reason)}" for one in node.failures)
        return node.node, "-", str(node.running or ""), "", reasons
    scores = "  ".join(f"{one.policy} {one.scaled:.2f}" for one in node.scores if one.scaled is not None)
    name = f"[green]{node.node}[/]" if node.chosen or node.running else node.node
    return (
        name,
        str(node.rank or ""),
        str(node.running or ""),
        "" if node.total is None else f"{node.total:.3f}",
        scores,
    )


def print_what_if(told: WhatIf) -> None:
    """What would move, start, stop or find no place; nothing was touched."""
    console.print(f"[bold]what if:[/] {escape(told.summary)}")
    rows = [
        (
            f"{one.application}/{one.component}",
            one.replica or "(new)",
            one.change,
            one.before or "-",
            one.after or "-",
            escape(one.reason),
        )
        for one in told.changes
    ]
    table("", ["COMPONENT", "REPLICA", "CHANGE", "FROM", "TO", "REASON"], rows, empty="nothing would change")
    console.print("[dim]nothing was touched[/]")

"""Prints a result for people: where everything stands, how well it was served, what broke, what was checked."""

from __future__ import annotations

from pathlib import Path

from ..control_plane.commands.output import Column, console, table
from .invariants import CHECKS
from .run import Result

FAILOVERS_SHOWN = 12


def show(result: Result, plot: Path | None = None) -> None:
    """The whole summary."""
    minutes = f"{result.simulated_s / 60:.1f} minutes in {result.real_s:.1f} s"
    console.print(
        f"[bold]{result.scenario}[/], seed {result.seed}: {result.nodes} nodes, {minutes} "
        f"({result.ratio:,.0f} × real time, {result.steps:,} steps)"
    )
    _components(result)
    _failovers(result)
    _counts(result)
    settled = "not" if result.settled_s is None else f"{result.settled_s:.0f} s after the last fault"
    console.print(f"everything as described: {settled}")
    console.print(f"trace hash: {result.trace_hash}")
    if plot is not None:
        console.print(f"picture: {plot}")
    if result.violation:
        console.print(result.violation, style="red", markup=False)
    else:
        console.print(f"[green]all {len(result.invariants)} invariants held[/] ({', '.join(result.invariants)})")


def _components(result: Result) -> None:
    served = {one.component: one for one in result.availability}
    rows = []
    for placed in result.placements:
        found = served.get(placed.component)
        share = f"{100 * found.ready_share:.2f} %" if found else ""
        lost = f"{found.missed:,.0f} of {found.requests:,.0f}" if found and found.requests else ""
        rows.append((placed.component, f"{placed.ready}/{placed.wanted}", share, lost, ", ".join(placed.nodes)))
    right = Column("ready", "right")
    table(
        "components", ["component", right, Column("served", "right"), Column("requests missed", "right"), "nodes"], rows
    )


def _failovers(result: Result) -> None:
    rows = []
    for one in result.failovers[:FAILOVERS_SHOWN]:
        again = "never" if one.served_again_s is None else f"{one.served_again_s:.1f} s"
        rows.append((f"{one.at_s / 60:.1f} min", one.replica, one.node, again))
    if rows:
        table(
            "failovers",
            [Column("at", "right"), "replica", "given up with", Column("served again after", "right")],
            rows,
        )
    if len(result.failovers) > FAILOVERS_SHOWN:
        console.print(f"… and {len(result.failovers) - FAILOVERS_SHOWN} more")


def _counts(result: Result) -> None:
    traffic = result.traffic
    console.print(
        f"wire: {traffic.packets:,} packets; {traffic.lost:,} lost, {traffic.duplicated:,} repeated, "
        f"{traffic.reordered:,} out of turn, {traffic.broker_dropped:,} dropped by the broker, "
        f"{traffic.refused_by_access:,} against its access list; {result.commits:,} commits"
    )
    faults = ", ".join(f"{count} × {kind}" for kind, count in result.faults.items())
    console.print(f"faults: {faults or 'none'}")


def show_checks() -> None:
    """The invariants with what they say."""
    table("invariants", ["name", "what must hold after every step"], [(check.name, check.title) for check in CHECKS])

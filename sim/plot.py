"""Draws a finished run as a PNG: nodes, replicas of each component, failovers, and what was broken when.

The only module that imports matplotlib (extra `sim`), with the Agg backend, so it needs no display. Colours are those
of Okabe and Ito, which people with any colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..descriptions.errors import ShoalError
from .observed import FaultBegan, FaultEnded, InstanceReady, ReplicaEvicted
from .run import Simulated
from .world import Sample, World

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999",
)  # fmt: skip
LANE_IN = 0.85
"""Height of one component's lane, inches."""
BAR_IN = 0.24
GAP_IN = 0.3
"""Between two lanes, for a title."""
LANES_MAX = 12


class Bar(msgspec.Struct, frozen=True):
    """A fault on the time line, in minutes."""

    kind: str
    start_min: float
    end_min: float
    targets: int


def draw(simulated: Simulated, path: Path) -> None:
    """Write the picture; `ShoalError` when matplotlib is not installed."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise ShoalError("plots need matplotlib; install it with `pip install 'shoal[sim]'`") from None
    world, result = simulated.world, simulated.result
    names = sorted({name for sample in world.samples for name in sample.components})[:LANES_MAX]
    bars = fault_bars(world)
    kinds = sorted({bar.kind for bar in bars})
    heights = [1.6, *([LANE_IN] * len(names)), max(BAR_IN * len(kinds), 0.3)]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        height_in = sum(heights) + GAP_IN * len(heights) + 0.9
        figure, axes = pyplot.subplots(len(heights), 1, sharex=True, figsize=(12, height_in), height_ratios=heights)
        space = GAP_IN * len(heights) / sum(heights)
        figure.subplots_adjust(0.11, 0.45 / height_in, 0.985, 1 - 0.65 / height_in, hspace=space)
        _nodes(axes[0], world.samples, result.nodes)
        for axis, name in zip(axes[1:-1], names, strict=True):
            _lane(axis, world, name)
        _faults(axes[-1], bars, kinds)
        for axis in axes:
            _middle(axis, world, axes[0])
        _legend(axes[0])
        axes[0].set_xlim(0, world.kernel.now_s / 60)
        axes[-1].set_xlabel("minutes")
        verdict = "every invariant held" if not result.violation else result.violation.splitlines()[0]
        told = (
            f"{result.scenario}, seed {result.seed}: {result.nodes} nodes, {result.simulated_s / 60:.0f} minutes at "
            f"{result.ratio:,.0f} × real time; {verdict}"
        )
        color = RED if result.violation else "black"
        figure.text(0.008, 1 - 0.25 / height_in, told[:150], fontsize=11, color=color, va="center")
        figure.savefig(path, dpi=130, metadata={"Software": "shoal sim", "Description": result.trace_hash})
        pyplot.close(figure)


def fault_bars(world: World) -> list[Bar]:
    """Every fault with its beginning and end; those that never ended reach to the end of the run."""
    begun: dict[tuple[str, tuple[str, ...]], float] = {}
    bars = []
    for at_s, fact in world.trace.facts:
        if isinstance(fact, FaultEnded):
            start_s = begun.pop((fact.kind, fact.targets), at_s)
            bars.append(Bar(fact.kind, start_s / 60, at_s / 60, len(fact.targets)))
        elif isinstance(fact, FaultBegan):
            begun[fact.kind, fact.targets] = at_s
    end_min = world.kernel.now_s / 60
    return [*bars, *(Bar(kind, start_s / 60, end_min, len(hit)) for (kind, hit), start_s in begun.items())]


def _nodes(axis: Axes, samples: Sequence[Sample], total: int) -> None:
    minutes = [sample.at_s / 60 for sample in samples]
    axis.axhline(total, color=GREY, linewidth=0.8, linestyle=":")
    axis.fill_between(minutes, [one.nodes_up for one in samples], step="post", color=SKY, alpha=0.35, label="powered")
    axis.step(minutes, [one.nodes_ready for one in samples], where="post", color=BLUE, label="ready, by verdict")
    axis.set_ylim(0, total * 1.12)
    axis.set_title("nodes", fontsize=9, pad=2, loc="left")


def _lane(axis: Axes, world: World, name: str) -> None:
    states = [(sample.at_s / 60, sample.components[name]) for sample in world.samples if name in sample.components]
    minutes = [at for at, _ in states]
    wanted, ready = [count for _, (count, _) in states], [count for _, (_, count) in states]
    axis.fill_between(minutes, ready, step="post", color=GREEN, alpha=0.4, label="ready")
    axis.step(minutes, wanted, where="post", color="black", linewidth=1.1, label="desired")
    top = max([*wanted, *ready, 1]) * 1.45
    _markers(axis, world, name, top)
    axis.set_ylim(0, top)
    axis.locator_params(axis="y", integer=True, nbins=4)
    axis.set_title(name, fontsize=9, pad=2, loc="left")
    _legend(axis, only=name == min(world.samples[-1].components, default=name))


def _markers(axis: Axes, world: World, name: str, top: float) -> None:
    """A triangle where a replica was given up with its node, a dot where the next one served."""
    lost, back, waiting = [], [], 0
    for at_s, fact in world.trace.facts:
        if isinstance(fact, ReplicaEvicted) and fact.replica.rpartition(".")[0] == name:
            lost.append(at_s / 60)
            waiting += 1
        elif waiting and isinstance(fact, InstanceReady) and fact.component == name:
            back.append(at_s / 60)
            waiting -= 1
    height = top * 0.9
    style: dict[str, Any] = {"linestyle": "none", "markersize": 6, "clip_on": False}
    axis.plot(lost, [height] * len(lost), marker="v", color=RED, label="given up with its node", **style)
    axis.plot(back, [height] * len(back), marker="o", color=GREEN, label="next one serves", **style)


def _faults(axis: Axes, bars: Sequence[Bar], kinds: Sequence[str]) -> None:
    for bar in bars:
        width = max(bar.end_min - bar.start_min, 0.15)
        place = kinds.index(bar.kind)
        axis.barh(place, width, left=bar.start_min, height=0.62, color=ORANGE, alpha=0.85, linewidth=0)
        if bar.targets > 1:
            axis.text(bar.start_min + 0.1, place, str(bar.targets), va="center", fontsize=7)
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set_ylim(len(kinds) - 0.4, -0.6)
    axis.set_title("faults (and how many nodes they hit)", fontsize=9, pad=2, loc="left")


def _middle(axis: Axes, world: World, first: Axes) -> None:
    """Shade when the broker was down, and when no control plane led."""
    broker = [(sample.at_s / 60, not sample.broker_up) for sample in world.samples]
    leader = [(sample.at_s / 60, not sample.leads) for sample in world.samples]
    for states, color, label in ((broker, RED, "broker down"), (leader, PURPLE, "no control plane")):
        for start, end in _spans(states):
            axis.axvspan(start, end, color=color, alpha=0.2, linewidth=0)
        if axis is first:
            axis.fill_between([], [], color=color, alpha=0.2, label=label)


def _spans(states: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    spans: list[tuple[float, float]] = []
    start = None
    for at, holds in states:
        if holds and start is None:
            start = at
        elif not holds and start is not None:
            spans.append((start, at))
            start = None
    return spans if start is None else [*spans, (start, states[-1][0])]


def _legend(axis: Axes, *, only: bool = True) -> None:
    """Beside the title; lanes share that of the first."""
    if only:
        axis.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=6, frameon=False, fontsize=8, borderaxespad=0)

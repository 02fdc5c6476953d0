"""Charts of a run, as SVG. Drawing only; every number was measured elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.change import Answered
from bench.planner import Drawn, Known

BLUE, ORANGE, GREY = "#1f5fa8", "#d9822b", "#9aa5b1"


def public_problems(known: Sequence[Known], path: Path) -> None:
    """XenServer's number beside the proven one, problem by problem."""
    figure, axes = _new(9.0, 0.32 * len(known) + 1.2)
    ordered = sorted(known, key=lambda k: (k.reference, k.hosts, k.name), reverse=True)
    at = range(len(ordered))
    axes.barh(at, [k.lower for k in ordered], height=0.62, color=BLUE, label="Quorate, proven")
    axes.barh(at, [k.xenserver for k in ordered], height=0.26, color=ORANGE, label="XenServer's planner")
    axes.plot([k.upper for k in ordered], at, "|", color="black", markersize=13, label="no plan can exceed this")
    axes.set_yticks(list(at), [f"{k.name} ({k.hosts} / {k.vms})" for k in ordered])
    axes.set_xlabel("host failures tolerated")
    axes.set_title("The public planning problems (hosts / VMs)")
    axes.legend(loc="upper right", frameon=False)
    _save(figure, path)


def random_pools(drawn: Sequence[Drawn], path: Path) -> None:
    """The share of random pools whose bracket is closed, against the CPU time it took."""
    figure, axes = _new(9.0, 4.2)
    scales = sorted({(d.hosts, d.vms) for d in drawn}, key=lambda s: (s[1], s[0]))
    for number, scale in enumerate(scales):
        some = [d for d in drawn if (d.hosts, d.vms) == scale]
        seconds = sorted(d.seconds for d in some if d.width == 0)
        share = [100 * (i + 1) / len(some) for i in range(len(seconds))]
        shade = mpl.colormaps["viridis"](number / max(1, len(scales) - 1) * 0.9)
        axes.step(
            [0.001, *seconds, 20.0], [0, *share, share[-1] if share else 0], where="post", color=shade, label=f"{scale[0]} / {scale[1]:,}"
        )
    axes.set_xscale("log")
    axes.set_xlim(0.003, 20.0)
    axes.set_ylim(0, 102)
    axes.set_xlabel("CPU seconds")
    axes.set_ylabel("closed, % of pools")
    axes.set_title("Random pools (hosts / VMs), 30 to 75 % load: exact answers by time")
    axes.legend(loc="upper left", frameon=False, ncols=2)
    _save(figure, path)


def one_change(below: Sequence[Answered], at_maximum: Sequence[Answered], path: Path) -> None:
    """How long the answer to one change takes, as a distribution."""
    figure, axes = _new(9.0, 3.6)
    for answers, colour, label in ((below, BLUE, "wish one below the maximum"), (at_maximum, ORANGE, "wish at the maximum")):
        millis = sorted(1000 * a.seconds for a in answers)
        axes.step(millis, [100 * (i + 1) / len(millis) for i in range(len(millis))], where="post", color=colour, label=label)
    for target in (10, 50):
        axes.axvline(target, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(0, 102)
    axes.set_xlabel("CPU milliseconds (dashed: the two targets for p99)")
    axes.set_ylabel("answered, % of changes")
    axes.set_title("64 hosts / 4,000 VMs: does the plan still hold after one change?")
    axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def _new(width: float, height: float) -> tuple[Figure, mpl.axes.Axes]:
    mpl.rcParams.update({"svg.hashsalt": "quorate", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")

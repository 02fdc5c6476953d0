"""The page of a run in `docs/`: the tables, the charts, the date and the machine in words."""

from collections.abc import Sequence

from bench.planner import FIRST_SECONDS, Known, Row

TITLE = "# What was measured"


def text(rows: Sequence[Row], known: Sequence[Known], charts: Sequence[str], when: str, machine: str) -> str:
    """The page. `charts` are file names beside it."""
    lines = [
        TITLE,
        "",
        f"Written by `make bench` on {when}, on {machine}. Times are CPU seconds of one process; all figures are from one run.",
        "Targets marked (*) were not reached by the prototype that the others come from.",
        "",
        "| | target | measured | met |",
        "|---|---|---|---|",
        *(f"| {row.what} | {row.target} | {row.measured} | {verdict(row)} |" for row in rows),
        "",
    ]
    if known:
        lines += [
            "## The public problems",
            "",
            f"`first` is the bracket after {FIRST_SECONDS} s. XenServer's number and the exact one are from the problems' `reference.csv`.",
            "",
            "| problem | hosts | VMs | XenServer | exact | first | proven | upper | seconds | prototype | proof |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *(
                f"| {k.name} | {k.hosts} | {k.vms} | {k.xenserver} | {k.reference} | {k.first[0]} to {k.first[1]} | {k.lower} | {k.upper} "
                f"| {k.seconds:.2f} | {k.prototype_seconds:.2f} | {proof(k)} |"
                for k in known
            ),
            "",
        ]
    lines += [line for chart in charts for line in (f"![{chart}]({chart})", "")]
    return "\n".join(lines)


def verdict(row: Row) -> str:
    """In one word."""
    return {True: "yes", False: "NO", None: "not measured"}[row.met]


def proof(known: Known) -> str:
    """Whether the other page of arithmetic accepts the certificate."""
    return {True: "accepted", False: "REFUSED", None: "none"}[known.accepted]

"""`quorate`, also `kubectl quorate`: the command line. Options and exit codes only; the other modules do the work.

Exit codes: 0 done (for check and what-if: the plan holds), 1 it does not hold, 2 bad input or no answer from the cluster.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from quorate_api.base import API_VERSION
from quorate_cli import changes, explaining, offline, operating, render
from quorate_cli.source import Source
from quorate_controller.kube import KubeError
from quorate_controller.observe import BadInput
from quorate_core.facts import Protection
from quorate_planner import ChangeError

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=f"High availability for VM pools ({API_VERSION})."
)

Files = Annotated[
    list[Path] | None, typer.Option("-f", "--filename", help="YAML or JSON files instead of the cluster; - is standard input.")
]
Kubeconfig = Annotated[Path | None, typer.Option(help="Kubeconfig file.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
PoolName = Annotated[str | None, typer.Option(help="Only this HAPool.")]
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Namespace of a VM that is named without one.")]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces (always so: a pool knows none).")]
Form = Annotated[render.Output, typer.Option("-o", "--output", help="Form of the answer.")]
Failures = Annotated[int | None, typer.Option(min=0, help="Ask for this many host failures instead of the pool's wish.")]
Think = Annotated[float, typer.Option(min=0.0, max=3600.0, help="Seconds to close each bracket; what is not proven by then counts as no.")]


@app.command()
def plan(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PROBLEM]...", help="Further planning problems.")] = None,
    problem: Annotated[list[Path] | None, typer.Option(help="A bare planning problem (JSON), instead of a pool.")] = None,
    think: Think = 2.0,
    certificate: Annotated[Path | None, typer.Option(help="Write the proof of one problem's answer to this file, for `verify`.")] = None,
    advise: Annotated[
        bool, typer.Option("--advise", help="Also say which one migration, number or unprotected VM helps most; as many seconds again.")
    ] = False,
    files: Files = None,
    failures: Failures = None,
    pool: PoolName = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    all_namespaces: AllNamespaces = False,
    output: Form = render.Output.TABLE,
) -> None:
    """How many host failures are covered, and where each VM restarts. Several problems give a list."""
    if problem:
        paths = [*problem, *(more or ())]
        raise typer.Exit(offline.plan_problems(paths, failures, output, think_seconds=think, certificate=certificate, with_advice=advise))
    if more:
        raise BadInput("plan", str(more[0]), "give files with -f, or planning problems with --problem")
    if certificate is not None:
        raise BadInput("--certificate", str(certificate), "needs a planning problem (--problem), which `verify` reads too")
    where = Source(tuple(files or ()), kubeconfig, context, pool)
    raise typer.Exit(offline.plan_pools(where, failures, output, think_seconds=think, with_advice=advise))


@app.command()
def verify(
    problem: Annotated[Path, typer.Argument(help="The planning problem (JSON).")],
    certificate: Annotated[Path, typer.Argument(help="Its certificate, from `plan --certificate`.")],
) -> None:
    """Check a plan's certificate independently of the planner. Exit code 0 accepted, 1 refused."""
    raise typer.Exit(offline.verify(problem, certificate))


@app.command("what-if")
def what_if(
    files: Files = None,
    without_host: Annotated[list[str] | None, typer.Option(help="The host leaves the pool.")] = None,
    set_protection: Annotated[list[str] | None, typer.Option(help="namespace/vm=Protected[:priority] | BestEffort | Unprotected.")] = None,
    grow_vm: Annotated[list[str] | None, typer.Option(help="namespace/vm=SIZE: what its pod would request.")] = None,
    move_vm: Annotated[list[str] | None, typer.Option(help="namespace/vm=HOST.")] = None,
    remove_vm: Annotated[list[str] | None, typer.Option(help="namespace/vm.")] = None,
    add_vm: Annotated[
        list[str] | None,
        typer.Option(metavar="SIZE", help="One more protected VM that requests so much, such as 16Gi; also says how many fit."),
    ] = None,
    think: Think = 2.0,
    failures: Failures = None,
    pool: PoolName = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    all_namespaces: AllNamespaces = False,
    output: Form = render.Output.TABLE,
) -> None:
    """The plan of a hypothetical pool: any number of changes at once. Exit code 1 if no plan would exist."""
    wished = [
        *changes.removals(without_host or (), ()),
        *changes.protections(set_protection or ()),
        *changes.sizes(grow_vm or ()),
        *changes.moves(move_vm or ()),
        *changes.removals((), remove_vm or ()),
        *changes.additions(add_vm or ()),
    ]
    where = Source(tuple(files or ()), kubeconfig, context, pool)
    raise typer.Exit(offline.what_if(where, wished, failures, output, think_seconds=think))


@app.command()
def check(files: Files = None, pool: PoolName = None, think: Think = 2.0, output: Form = render.Output.TABLE) -> None:
    """For pipelines: does the plan hold once everything in these files runs? Exit code 0 yes, 1 no, 2 bad input."""
    if not files:
        raise BadInput("check", "-f", "at least one file is needed, such as a dump of the cluster and the change")
    raise typer.Exit(offline.check(Source(tuple(files), pool=pool), output, think_seconds=think))


@app.command()
def status(
    files: Files = None,
    pool: PoolName = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    all_namespaces: AllNamespaces = False,
    output: Form = render.Output.TABLE,
) -> None:
    """Pools, hosts and protected VMs at a glance."""
    raise typer.Exit(explaining.status(Source(tuple(files or ()), kubeconfig, context, pool), output))


@app.command()
def explain(
    kind: Annotated[str, typer.Argument(help="vm, host or pool.")],
    name: Annotated[str, typer.Argument(help="Its name; a VM as namespace/name.")],
    files: Files = None,
    pool: PoolName = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = "default",
    output: Form = render.Output.TABLE,
) -> None:
    """Why a VM is not agile, not restarted, or where it would go; why a host is not armed; why a pool tolerates no more."""
    full = f"{namespace}/{name}" if kind == "vm" and "/" not in name else name
    raise typer.Exit(explaining.explain(Source(tuple(files or ()), kubeconfig, context, pool), kind, full, output))


@app.command()
def maintenance(
    host: Annotated[str, typer.Argument(help="The host.")],
    done: Annotated[bool, typer.Option("--done", help="Maintenance is over.")] = False,
    lower_tolerance: Annotated[
        bool, typer.Option("--lower-tolerance", help="Tolerate one failure less while it lasts, if needed.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take a host out of its pool without being a failure, or let it back in."""
    raise typer.Exit(
        operating.maintenance(Source(kubeconfig=kubeconfig, context=context), host, done=done, lower_tolerance=lower_tolerance)
    )


@app.command()
def pause(
    pool: Annotated[str, typer.Argument(help="The HAPool.")],
    duration: Annotated[str, typer.Option("--for", help="How long, such as 2h or 90m.")],
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Disarm a pool for a while; it arms again by itself."""
    raise typer.Exit(operating.pause(Source(kubeconfig=kubeconfig, context=context), pool, duration))


@app.command()
def protect(
    vm: Annotated[str, typer.Argument(help="The VM, as name or namespace/name.")],
    priority: Annotated[int, typer.Option(min=0, max=1000000, help="Lower starts first.")] = 0,
    best_effort: Annotated[bool, typer.Option("--best-effort", help="Restart it only if there is room.")] = False,
    namespace: Namespace = "default",
    pool: PoolName = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Protect a VM, or change how."""
    wished = Protection.BEST_EFFORT if best_effort else Protection.PROTECTED
    raise typer.Exit(operating.protect(Source(kubeconfig=kubeconfig, context=context, pool=pool), vm, namespace, wished, priority))


@app.command()
def unprotect(
    vm: Annotated[str, typer.Argument(help="The VM, as name or namespace/name.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give up the protection of a VM."""
    raise typer.Exit(operating.unprotect(Source(kubeconfig=kubeconfig, context=context), vm, namespace))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(ctx: typer.Context) -> None:
    """The local pool of the README (in a checkout only)."""
    if importlib.util.find_spec("quorate_local") is None:
        raise BadInput("demo", "", "the local pool is part of the source tree, not of an installation: run `make demo` in a checkout")
    raise typer.Exit(subprocess.run([sys.executable, "-m", "quorate_local", "demo", *ctx.args], check=False).returncode)


def main() -> None:
    """Run; what is wrong is one sentence on standard error and exit code 2."""
    try:
        app()
    except (BadInput, ChangeError, KubeError) as error:
        print(f"quorate: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()

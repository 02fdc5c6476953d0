"""`python -m quorate_local`: the local pool by hand."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from quorate_local import background, binaries, cables, demo, hosts, partition, pool, runs, workload
from quorate_local.problem import Problem

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

INTERRUPTED = 130

Port = Annotated[int | None, typer.Option(help="Port of the API server on 127.0.0.1; any free one by default.")]


def say(text: str) -> None:
    """One line for people."""
    print(f"quorate: {text}", flush=True)


@app.command("binaries")
def binaries_command() -> None:
    """Find the programs of the local pool, or build them (about 10 minutes the first time)."""
    found = binaries.ensure(say)
    for name, path in found.paths.items():
        if name != "crds":
            print(f"{name:24} {path}")


@app.command()
def up(
    hosts: Annotated[int, typer.Option(min=0, max=12, help="How many hosts with agents.")] = 0,
    memory: Annotated[str, typer.Option(help="Memory of each host, as a Kubernetes quantity.")] = "16Gi",
    controllers: Annotated[int, typer.Option(min=0, max=3, help="How many controller replicas.")] = 2,
    bare: Annotated[bool, typer.Option("--bare", help="Without Quorate: only the control plane and KubeVirt.")] = False,
    port: Port = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C.")] = False,
) -> None:
    """Start a control plane with KubeVirt and Quorate and leave it running; prints the KUBECONFIG line."""

    def furnish(local: pool.LocalPool) -> int:
        for number in range(0 if bare else controllers):
            local.start_controller(f"controller-{'abc'[number]}")
        for number in range(1, hosts + 1):
            local.add_host(f"host-{number}", memory=memory, labels={"quorate.dev/pool": "demo"}, agent=not bare)
        _print_kubeconfig(local)
        return 0

    if foreground:
        with pool.local_pool(say, port=port, quorate=not bare) as local:
            furnish(local)
            background.until_stopped()
        return
    raise typer.Exit(_kept(furnish, port=port, quorate=not bare))


@app.command("demo")
def demo_command(
    hosts: Annotated[int, typer.Option(min=2, max=12, help="How many hosts.")] = 4,
    vms: Annotated[int, typer.Option(min=3, max=60, help="How many VMs.")] = 14,
    split: Annotated[
        str,
        typer.Option(
            help="Network splits to show: 3:1, 2:2 or other sizes of sides; `one`, `both`: one host against the rest, halves; `none`."
        ),
    ] = "one",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the pool up afterwards; `down` stops it.")] = False,
) -> None:
    """Watch a host die, the network split, and VMs come back where the plan said."""
    wanted = demo.Wanted(hosts, workload.make_vms(vms), partition.parse(split, hosts))
    console = Console(highlight=False, width=150)
    began_seconds = time.monotonic()

    def walk(local: pool.LocalPool) -> int:
        return demo.show(local, wanted, keep=keep, console=console, began_seconds=began_seconds)

    if keep:
        raise typer.Exit(_kept(walk))
    with pool.local_pool(say) as local:
        code = walk(local)
    raise typer.Exit(code)


@app.command()
def down() -> None:
    """Stop every local pool of this user and clear away what dead ones left."""
    for folder in runs.alive():
        try:
            os.kill(int((folder / "owner").read_text()), signal.SIGTERM)
        except (OSError, ValueError):
            say(f"{folder.name} belongs to a command that still runs: stop that command")
            continue
        end = time.monotonic() + 30
        while folder.exists() and time.monotonic() < end:
            time.sleep(0.1)
        say(f"stopped {folder.name}")
    runs.clear_dead()


@app.command("list")
def list_command() -> None:
    """The local pools of this user that run now."""
    for folder in runs.alive():
        print(f"{folder.name}  KUBECONFIG={folder / 'kubeconfig'}  logs in {folder / 'logs'}")


@app.command()
def split(
    name: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool, as `list` shows it.")],
    groups: Annotated[list[str], typer.Argument(metavar="HOSTS...", help="Two or more groups of hosts: host-1,host-2 host-3,host-4")],
) -> None:
    """Cut groups of hosts of a running pool off from each other; storage and the API server stay."""
    _cables(name).split(*([host for host in group.split(",") if host] for group in groups))
    say(f"the network is cut: {' | '.join(groups)}")


@app.command()
def cut(
    name: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool, as `list` shows it.")],
    one: Annotated[str, typer.Argument(metavar="HOST")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help=f"Another host, or `{cables.API}`: the API server.")],
    one_way: Annotated[bool, typer.Option("--one-way", help="Only what HOST sends to OTHER is lost.")] = False,
) -> None:
    """Cut between two hosts of a running pool, or between a host and the API server."""
    _cables(name).cut(one, other, one_way=one_way)
    say(f"the network is cut: {one} {'->' if one_way else '<->'} {other}")


@app.command()
def heal(name: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool, as `list` shows it.")]) -> None:
    """Undo every cut in the network of a running pool."""
    _cables(name).heal()
    say(f"no host of {name} is cut off any more")


def _cables(name: str) -> cables.Cables:
    """The network of a running pool of this user. Raises Problem."""
    running = {folder.name: folder for folder in runs.alive()}
    if name not in running:
        raise Problem(f"no local pool {name} runs. There are: {', '.join(running) or 'none; `up` starts one'}.")
    return cables.Cables(name, running[name], hosts.GATEWAY)


def _kept(use: Callable[[pool.LocalPool], int], *, port: int | None = None, quorate: bool = True) -> int:
    """Start a pool, use it, and leave it running in the background if that went well."""
    found = binaries.ensure(say)
    holder: list[pool.LocalPool] = []

    def work() -> int:
        local = pool.LocalPool(runs.claim(), found, say)
        try:
            local.start(port=port, quorate=quorate)
            (local.run.folder / "owner").write_text(str(os.getpid()))
            code = use(local)
        except Problem as problem:
            local.stop()
            print(f"quorate: {problem}", file=sys.stderr)
            return 2
        except BaseException:
            local.stop()
            raise
        if code:
            local.stop()
        holder.append(local)
        return code

    def stay() -> None:
        background.until_stopped()
        holder[0].stop()

    return background.in_background(work, stay)


def _print_kubeconfig(local: pool.LocalPool) -> None:
    print(f"export KUBECONFIG={local.kubeconfig}")
    print(f"export PATH={local.binaries['kubectl'].parent}:{local.binaries['virtctl'].parent}:$PATH", flush=True)


def main() -> None:
    """Run the command; what this machine lacks is one sentence and exit code 2."""
    try:
        app()
    except Problem as problem:
        print(f"quorate: {problem}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer answers Ctrl-C with this code and no word
            print("quorate: interrupted; what ran is stopped, what was built is kept", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()

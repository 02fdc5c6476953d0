"""`python -m quorate_local`: the local pool by hand."""

import os
import signal
import sys
import time
from typing import Annotated

import typer

from quorate_local import background, binaries, pool, runs
from quorate_local.problem import Problem

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

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
def up(port: Port = None, foreground: Annotated[bool, typer.Option(help="Stay until Ctrl-C.")] = False) -> None:
    """Start a control plane with KubeVirt and leave it running; prints the KUBECONFIG line."""
    if foreground:
        with pool.local_pool(say, port=port) as started:
            _print_kubeconfig(started)
            background.until_stopped()
        return
    found = binaries.ensure(say)
    holder: list[pool.LocalPool] = []

    def work() -> int:
        local = pool.LocalPool(runs.claim(), found, say)
        try:
            local.start(port=port)
        except Problem as problem:
            local.stop()
            print(f"quorate: {problem}", file=sys.stderr)
            return 2
        except BaseException:
            local.stop()
            raise
        holder.append(local)
        (local.run.folder / "owner").write_text(str(os.getpid()))
        _print_kubeconfig(local)
        return 0

    def stay() -> None:
        background.until_stopped()
        holder[0].stop()

    raise typer.Exit(background.in_background(work, stay))


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
    except KeyboardInterrupt:
        print("quorate: interrupted; what was built so far is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

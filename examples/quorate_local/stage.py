"""The stage of `make demo`: runs commands as a person would and shows them, waits, and collects what was checked. Decides nothing."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from quorate_local import pool

LINES_SHOWN = 16


class Failed(Exception):
    """The demo saw something that contradicts what Quorate promises; the message says what."""


@dataclass(slots=True)
class Stage:
    """The console, with the seconds since the demo began; collects what was checked for the table at the end."""

    local: pool.LocalPool
    console: Console
    began_seconds: float
    checks: list[tuple[str, str, str]] = field(default_factory=list)

    def elapsed_seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self.began_seconds

    def step(self, text: str) -> None:
        """Begin a step, in plain words."""
        self.console.print(f"\n[bold cyan]{self.elapsed_seconds():6.1f} s[/]  [bold]{text}[/]")

    def note(self, text: str) -> None:
        """One sentence on what is seen."""
        self.console.print(f"          {text}", highlight=False, soft_wrap=True)

    def checked(self, claim: str, seen: str) -> None:
        """A claim that was looked at and holds."""
        self.checks.append((claim, seen, f"{self.elapsed_seconds():.0f} s"))
        self.note(f"[green]ok[/]  {claim}: {seen}")

    def run(self, *command: str, stdin: str | None = None, refused: bool | None = False, lines: int = LINES_SHOWN) -> str:
        """Run a command as a person would, show it and its output.

        `refused` says that it must fail, None that it may. Raises Failed otherwise.
        """
        self.console.print(f"          [yellow]$ {shlex.join(command)}[/]", highlight=False, soft_wrap=True)
        done = subprocess.run(
            [self._program(command[0]), *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str(self.local.kubeconfig), "COLUMNS": "150", "NO_COLOR": "1"},
        )
        output = (done.stdout + done.stderr).rstrip()
        shown = output.splitlines()
        for line in shown[:lines]:
            self.console.print(f"          {line}", highlight=False, markup=False, soft_wrap=True)
        if len(shown) > lines:
            self.console.print(f"          ... {len(shown) - lines} more lines", highlight=False)
        if refused is not None and (done.returncode != 0) != refused:
            raise Failed(f"`{shlex.join(command)}` {'was not refused' if refused else 'failed'}: {output[-800:]}")
        return output

    def _program(self, name: str) -> str:
        if name.startswith("quorate"):
            return str(Path(sys.executable).with_name(name))
        return str(self.local.binaries[name])

    def until(self, what: str, holds: Callable[[], bool], deadline_seconds: float) -> float:
        """Wait, and say how long it took. Raises Failed at the deadline."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > deadline_seconds:
                raise Failed(f"waited {deadline_seconds:.0f} s in vain until {what}")
            time.sleep(0.25)
        took = time.monotonic() - start
        self.note(f"{what} ({took:.1f} s)")
        return took


def keep_evidence(local: pool.LocalPool) -> Path:
    """Copy the logs and what the API says to a folder that outlives the pool; its path."""
    folder = Path(tempfile.mkdtemp(prefix="quorate-demo-"))
    shutil.copytree(local.run.logs, folder / "logs")
    shutil.copytree(local.disks, folder / "disks")
    state = local.kubectl("get", "hapools,hahosts,protectedvms,failovers,nodes,pods,vms,vmis", "-A", "-o", "yaml", check=False)
    (folder / "state.yaml").write_text(state)
    return folder

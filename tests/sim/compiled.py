"""The core in compiled form, for searches of many thousands of schedules: about half the time of the plain one.

What is compiled, by mypyc and the C compiler of this machine, is the core of this tree as `native` rewrites it; it is kept in the user's
cache for as long as the tree stays the same. Only the processes of a search run it: what they find is played again, shrunk and told by the
plain core. Without a compiler a search runs the plain core.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import quorate_core

from . import native

MODULES = (
    *("arming", "certificate", "claim", "clique", "copies", "cycles", "disks", "eviction", "heart", "heartbeat", "judgement", "keeping"),
    *("licence", "membership", "numbers", "packet", "partition", "pool", "publish", "slot", "statement", "storageless", "timing"),
)
"""What a simulated host runs. `crc32c` stays plain: `fast` puts another checksum in its place."""

_BUILD = """from mypyc.build import mypycify
from setuptools import setup
setup(name="core", packages=[], ext_modules=mypycify({files!r}, opt_level="2"))
"""


class NotCompiled(Exception):
    """Why there is no compiled core here, for people."""


def write(folder: Path) -> None:
    """A package `quorate_core` in that folder, with the rewritten modules in the place of the core's own."""
    core = Path(quorate_core.__file__).parent
    shutil.copytree(core, folder / core.name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name, source in native.rewrite({name: (core / f"{name}.py").read_text() for name in MODULES}).items():
        (folder / core.name / f"{name}.py").write_text(source)


def core() -> Path:
    """The folder to be put in front of the path. Compiles, for about a minute, what has not been compiled yet. Raises NotCompiled."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quorate"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="sim-build-") as name:
            folder = Path(name) / "core"
            write(folder)
            kept = cache / f"sim-core-{_digest(folder)}"
            if not kept.exists():
                _compile(folder)
                if not kept.exists():  # another search may have been as fast
                    folder.rename(kept)
    except OSError as error:
        raise NotCompiled(f"{error.strerror}: {error.filename}") from error
    return kept


def _digest(folder: Path) -> str:
    said = hashlib.sha256(f"{sys.version} {_BUILD}".encode())
    for path in sorted(folder.rglob("*.py")):
        said.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return said.hexdigest()[:16]


def _compile(folder: Path) -> None:
    print("quorate sim: compiling the core for this search, once, about a minute", file=sys.stderr)
    began = time.monotonic()
    (folder / "setup.py").write_text(_BUILD.format(files=[f"quorate_core/{name}.py" for name in MODULES]))
    built = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, capture_output=True, text=True, check=False)
    if built.returncode:
        last = [line for line in (built.stdout + built.stderr).splitlines() if line.strip()][-1:]
        raise NotCompiled(" ".join(last) or f"setup.py ended with {built.returncode}")
    shutil.rmtree(folder / "build")
    print(f"quorate sim: compiled in {time.monotonic() - began:.0f} s", file=sys.stderr)

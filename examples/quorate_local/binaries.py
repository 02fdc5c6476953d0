"""Finds the programs of the local pool, or builds them once from pinned Go modules.

Order for each program: `$KUBEBUILDER_ASSETS`, `PATH`, both only where the version fits; then the cache folder; then a build.
The cache is keyed by the content of the module files, so that a changed pin never meets an old binary.
Two runs may come here at once (the second waits) and either may be killed at any moment (the next goes on).
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from quorate_local import gotool
from quorate_local.problem import Problem

Say = Callable[[str], None]

MODULES = Path(__file__).parent / "modules"
SPACE_BYTES = 9 * 2**30  # modules 2.5 GB, compiler's cache 4.5 GB, binaries 0.7 GB, and some air
KUBERNETES_VERSION = "1.37.2"
KUBEVIRT_CRDS = "kubevirt-crds.jsonl"

_STAMP = "k8s.io/component-base/version"
_KUBEVIRT_FLAGS = "-s -w -X kubevirt.io/client-go/version.gitVersion=v1.7.0"
_K8S_FLAGS = f"-s -w -X {_STAMP}.gitVersion=v{KUBERNETES_VERSION} -X {_STAMP}.gitMajor=1 -X {_STAMP}.gitMinor=37"


@dataclass(frozen=True, slots=True)
class Program:
    """One program: how to ask an installed one for its version, which versions fit, and how to build it."""

    name: str
    module: str
    package: str
    minutes: float
    """What a cold build takes on two cores, for the word on how long."""
    ask: tuple[str, ...] = ()
    """Arguments that print the version; empty where the program cannot say, so that only our own build is trusted."""
    fits: Callable[[tuple[int, ...]], bool] = lambda _: False
    ldflags: str = "-s -w"


def _kubernetes(minor_from: int, minor_to: int) -> Callable[[tuple[int, ...]], bool]:
    return lambda v: v[0] == 1 and minor_from <= v[1] <= minor_to


def _at_least(*least: int) -> Callable[[tuple[int, ...]], bool]:
    return lambda v: v >= least


PROGRAMS: tuple[Program, ...] = (
    Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", 0.3, ("--version",), _at_least(3, 6)),
    *(
        Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", minutes, ("--version",), _kubernetes(37, 37), _K8S_FLAGS)
        for name, minutes in (("kube-apiserver", 4.0), ("kube-controller-manager", 1.0), ("kube-scheduler", 0.5))
    ),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", 0.7, ("version", "--client"), _kubernetes(36, 38), _K8S_FLAGS),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 1.0, ("--version",), _at_least(0, 8)),
    Program("virt-api", "kubevirt", "kubevirt.io/kubevirt/cmd/virt-api", 1.0, ldflags=_KUBEVIRT_FLAGS),
    Program("virt-controller", "kubevirt", "kubevirt.io/kubevirt/cmd/virt-controller", 0.7, ldflags=_KUBEVIRT_FLAGS),
    Program("virtctl", "kubevirt", "kubevirt.io/kubevirt/cmd/virtctl", 0.8, ("version", "--client"), _at_least(1, 7), _KUBEVIRT_FLAGS),
    Program("crds", "kubevirt", "quorate.dev/local/kubevirt/crds", 1.8),
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where every program is, and KubeVirt's custom resource definitions, one JSON document a line."""

    paths: Mapping[str, Path]
    kubevirt_crds: Path

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$QUORATE_CACHE`, else `~/.cache/quorate`."""
    if chosen := environ.get("QUORATE_CACHE"):
        return Path(chosen)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quorate"


def module_folder(cache: Path, module: str, modules: Path = MODULES) -> Path:
    """The cache folder of one Go module's programs; its name changes with every pin."""
    digest = hashlib.sha256()
    for path in sorted(p for p in (modules / module).rglob("*") if p.is_file()):
        digest.update(path.relative_to(modules).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr([(p.name, p.package, p.ldflags) for p in PROGRAMS if p.module == module]).encode())
    return cache / f"{module}-{digest.hexdigest()[:12]}"


def version_of(program: Program, path: Path) -> tuple[int, ...] | None:
    """The version an installed program states, or None if it states none."""
    try:
        done = subprocess.run([path, *program.ask], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v?(\d+)\.(\d+)(?:\.(\d+))?", done.stdout + done.stderr)
    return tuple(int(n) for n in found.groups(default="0")) if found else None


def installed(program: Program, environ: Mapping[str, str] = os.environ) -> Path | None:
    """A program that is already on this machine in a version that fits, or None."""
    if not program.ask:
        return None
    for folders in (environ.get("KUBEBUILDER_ASSETS"), environ.get("PATH")):
        found = shutil.which(program.name, path=folders) if folders else None
        if found and (version := version_of(program, Path(found))) and program.fits(version):
            return Path(found)
    return None


def find(environ: Mapping[str, str] = os.environ) -> tuple[dict[str, Path], list[Program]]:
    """What is there, by name, and what has to be built."""
    cache, have, missing = cache_folder(environ), {}, []
    for program in PROGRAMS:
        cached = module_folder(cache, program.module) / program.name
        if found := installed(program, environ):
            have[program.name] = found
        elif cached.is_file():
            have[program.name] = cached
        else:
            missing.append(program)
    return have, missing


def ensure(say: Say = print, environ: Mapping[str, str] = os.environ) -> Binaries:
    """Every program, built where it is missing.

    Raises Problem when it cannot be built: no Go and none to be had, no network, no space.
    """
    have, missing = find(environ)
    cache = cache_folder(environ)
    crds = module_folder(cache, "kubevirt") / KUBEVIRT_CRDS
    if missing or not crds.is_file():
        with _only_one(cache, say):
            have, missing = find(environ)  # another run may have built them while this one waited
            if missing:
                _build_all(cache, missing, say, environ)
                have, _ = find(environ)
            if not crds.is_file():
                _print_crds(have["crds"], crds)
    return Binaries(have, crds)


@contextlib.contextmanager
def _only_one(cache: Path, say: Say) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Problem(
            f"cannot write the cache folder {cache} ({error.strerror}): set QUORATE_CACHE to a folder that you may write."
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is building into {cache}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _build_all(cache: Path, missing: list[Program], say: Say, environ: Mapping[str, str]) -> None:
    free = shutil.disk_usage(cache).free
    if free < SPACE_BYTES:
        raise Problem(
            f"building needs {SPACE_BYTES / 2**30:.0f} GiB and {cache} has {free / 2**30:.1f}: "
            "make room, or set QUORATE_CACHE to a larger disk."
        )
    minutes = sum(p.minutes for p in missing)
    names = ", ".join(program.name for program in missing)
    say(f"building {names} from their Go modules: once, about {max(1, round(minutes))} min on two cores, plus downloads")
    go = gotool.find(cache, say, environ)
    for program in missing:
        folder = module_folder(cache, program.module)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{program.name}.building"
        gotool.build(go, MODULES / program.module, program.package, program.ldflags, unfinished, program.name, say)
        unfinished.rename(folder / program.name)
    gotool.tidy_up(go)


def _print_crds(program: Path, target: Path) -> None:
    done = subprocess.run([program], capture_output=True, timeout=120, check=False)
    if done.returncode or not done.stdout:
        raise Problem(f"{program} printed no custom resource definitions: delete {program} and run again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".building")
    unfinished.write_bytes(done.stdout)
    unfinished.rename(target)

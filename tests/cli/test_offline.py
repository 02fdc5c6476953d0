"""The command line on files: the same answers as the planner, and a clear sentence with exit code 2 for everything that is wrong."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .command import Json, cluster, dump, find, pool, protection, quorate, vm


def test_plan_of_a_dump_is_the_json_of_the_api_page(tmp_path: Path) -> None:
    done = quorate("plan", "-f", dump(tmp_path, cluster()), "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["pool"], answer["hosts"], answer["protectedVMs"]) == ("p", 3, 2)
    assert answer["planExists"] is True
    assert answer["maxHostFailuresToTolerate"] == {"lower": 2, "upper": 2, "exact": True}
    assert answer["placements"]["h1"]["shop/vm-1"] in {"h2", "h3"}
    assert set(answer) == {
        "pool",
        "hosts",
        "protectedVMs",
        "hostFailuresToTolerate",
        "planExists",
        "overcommitted",
        "maxHostFailuresToTolerate",
        "witness",
        "placements",
        "elapsedSeconds",
    }


def test_the_installed_command_answers_and_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quorate_cli", "check", "-f"]
    good = subprocess.run([*command, dump(tmp_path, cluster())], capture_output=True, text=True, check=False, timeout=120)
    assert good.returncode == 0, good.stderr
    bad = subprocess.run([*command, "none.yaml"], capture_output=True, text=True, check=False, timeout=120)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("quorate: none.yaml")


def test_a_dump_may_come_from_standard_input_and_leave_as_yaml(tmp_path: Path) -> None:
    done = quorate("plan", "-f", "-", "-o", "yaml", stdin=dump(tmp_path, cluster()).read_text())
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["hosts"] == 3


def test_what_if_tells_before_and_after(tmp_path: Path) -> None:
    path = dump(tmp_path, cluster())
    fits = quorate("what-if", "-f", path, "--add-vm", "8Gi", "-o", "json")
    assert fits.returncode == 0, fits.stderr
    assert json.loads(fits.stdout)["protectedVMs"] == 3
    breaks = quorate("what-if", "-f", path, "--add-vm", "30Gi", "--add-vm", "30Gi", "--add-vm", "20Gi")
    assert breaks.returncode == 1, breaks.stderr
    assert "NO" in breaks.stdout
    both = quorate(
        "what-if", "-f", path, "--without-host", "h3", "--set-protection", "shop/vm-2=BestEffort", "--failures", "1", "-o", "json"
    )
    assert json.loads(both.stdout)["hosts"] == 2


def test_check_holds_and_breaks(tmp_path: Path) -> None:
    path = dump(tmp_path, cluster())
    assert quorate("check", "-f", path).returncode == 0
    change = tmp_path / "change.yaml"
    change.write_text(yaml.safe_dump_all([vm("huge-1", "28Gi"), protection("huge-1"), vm("huge-2", "28Gi"), protection("huge-2")]))
    refused = quorate("check", "-f", path, "-f", change)
    assert refused.returncode == 1, refused.stderr
    assert "NO plan exists" in refused.stdout


def test_check_counts_the_memory_of_vms_without_protection(tmp_path: Path) -> None:
    path = dump(tmp_path, cluster())
    change = tmp_path / "change.yaml"
    change.write_text(yaml.safe_dump_all([vm(f"plain-{size}", size) for size in ("27Gi", "27.1Gi", "30Gi")]))
    answer = quorate("check", "-f", path, "-f", change, "-o", "json")
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert json.loads(answer.stdout)["holds"] is False


def test_status_and_explain_read_a_dump(tmp_path: Path) -> None:
    path = dump(tmp_path, cluster())
    shown = quorate("status", "-f", path)
    assert shown.returncode == 0, shown.stderr
    assert "shop/vm-1" in shown.stdout
    why = quorate("explain", "vm", "shop/vm-1", "-f", path)
    assert "if h1 fails now it restarts on" in why.stdout
    assert "R_s" in quorate("explain", "pool", "p", "-f", path).stdout


def test_several_problems_give_a_list(tmp_path: Path) -> None:
    problem = {"hosts": [{"name": "a", "free": 10}, {"name": "b", "free": 10}], "vms": [{"name": "v", "size": 4, "host": "a"}]}
    paths = [tmp_path / f"{name}.json" for name in ("one", "two")]
    for path in paths:
        path.write_text(json.dumps(problem))
    answers = json.loads(quorate("plan", "--problem", *paths, "-o", "json").stdout)
    assert [answer["pool"] for answer in answers] == ["one", "two"]
    assert json.loads(quorate("plan", "--problem", paths[0], "-o", "json").stdout)["maxHostFailuresToTolerate"]["lower"] == 1


def test_a_certificate_is_written_verified_and_refused_when_a_byte_is_moved(tmp_path: Path) -> None:
    hosts = [{"name": name, "free": 10} for name in "abc"]
    problem, proof = tmp_path / "p.json", tmp_path / "proof.json"
    problem.write_text(json.dumps({"hosts": hosts, "vms": [{"name": "v", "size": 4, "host": "a"}, {"name": "w", "size": 4, "host": "b"}]}))
    assert quorate("plan", "--problem", problem, "--certificate", proof).returncode == 0
    assert quorate("verify", problem, proof).returncode == 0
    forged = json.loads(proof.read_text())
    forged["k"] += 1
    proof.write_text(json.dumps(forged))
    refused = quorate("verify", problem, proof)
    assert refused.returncode == 1
    assert "refused" in refused.stdout


def edit(change: Callable[[list[Json]], object]) -> list[Json]:
    objects = copy.deepcopy(cluster())
    change(objects)
    return objects


BAD: dict[str, tuple[list[Json], tuple[str, ...]]] = {
    "negative memory": (
        edit(lambda o: find(o, "VirtualMachine")["spec"]["template"]["spec"]["domain"].update(memory={"guest": "-1Gi"})),
        ("VirtualMachine shop/vm-1", "memory.guest", "negative"),
    ),
    "unknown protection": (
        edit(lambda o: find(o, "ProtectedVM")["spec"].update(protection="Always")),
        ("ProtectedVM shop/vm-1", "spec.protection"),
    ),
    "two storage sources": (
        edit(lambda o: find(o, "HAPool")["spec"]["heartbeat"]["storage"].update(claimName="c")),
        ("HAPool p", "spec.heartbeat.storage", "exactly one"),
    ),
    "host in two pools": (edit(lambda o: o.append(pool("q"))), ("HAPool p", "Node h1", "pools p and q")),
    "Node without allocatable": (edit(lambda o: find(o, "Node")["status"].pop("allocatable")), ("Node h1", "status.allocatable")),
    "negative tolerance": (
        edit(lambda o: find(o, "HAPool")["spec"].update(hostFailuresToTolerate=-1)),
        ("HAPool p", "hostFailuresToTolerate"),
    ),
    "no pool at all": (edit(lambda o: o.remove(find(o, "HAPool"))), ("HAPool", "none")),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("verb", ["plan", "check", "what-if", "status"])
def test_a_wrong_field_is_named_with_its_object(tmp_path: Path, verb: str, case: str) -> None:
    objects, words = BAD[case]
    done = quorate(verb, "-f", dump(tmp_path, objects))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_missing_vm_and_a_pool_without_hosts_are_said(tmp_path: Path) -> None:
    gone = dump(tmp_path, edit(lambda o: o.remove(find(o, "VirtualMachine"))))
    said = quorate("check", "-f", gone)
    assert "there is no VirtualMachine shop/vm-1" in said.stdout + said.stderr
    lonely = dump(tmp_path, [pool()])
    empty = quorate("check", "-f", lonely)
    assert empty.returncode != 0, empty.stdout
    assert "no Node is selected" in empty.stdout + empty.stderr


def test_a_dump_cut_in_the_middle_is_found_with_its_line(tmp_path: Path) -> None:
    text = dump(tmp_path, cluster()).read_text()
    for share in (0.3, 0.5, 0.8, 0.97):
        done = quorate("check", "-f", "-", stdin=text[: int(len(text) * share)])
        assert done.returncode == 2, f"cut at {share}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "cut?" in done.stderr or "not complete" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "-f", "no-such-file.yaml"), ("no-such-file.yaml", "No such file")),
        (("check",), ("-f", "at least one file")),
        (("pause", "p", "--for", "soon"), ("--for", "soon")),
        (("explain", "moon", "m"), ("moon",)),
        (("plan", "--kubeconfig", "no-such-kubeconfig"), ("no-such-kubeconfig",)),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = quorate(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--add-vm", "-4Gi"), ("--add-vm", "negative")),
        (("--add-vm", "much"), ("--add-vm", "much")),
        (("--without-host", "h9"), ("no host h9",)),
        (("--set-protection", "shop/vm-1"), ("--set-protection", "expected")),
        (("--set-protection", "shop/vm-1=Sometimes"), ("Sometimes",)),
        (("--move-vm", "shop/none=h1"), ("shop/none",)),
    ],
)
def test_a_wrong_change_is_named(tmp_path: Path, change: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = quorate("what-if", "-f", dump(tmp_path, cluster()), *change)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"hosts": []}',
        '{"hosts": [{"name": "a", "free": -1}], "vms": []}',
        '{"hosts": [], "vms": [{"name": "v", "size": 0}]}',
    ],
)
def test_a_wrong_problem_names_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "problem.json"
    path.write_text(text)
    done = quorate("plan", "--problem", path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "problem.json" in done.stderr

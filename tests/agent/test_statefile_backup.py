"""The backup on the heartbeat disk: who writes it, when, where, and what comes back from it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from quorate_agent import wire
from quorate_agent.report import backup as handing
from quorate_agent.statefile import document, keep
from quorate_agent.statefile.device import Device, Unusable
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_core import backup, slot
from tests.agent.statefiles import NOW, OTHER, POOL, TEXT, disk, manifests, ran


def test_what_is_restored_is_what_a_user_wrote(tmp_path: Path) -> None:
    path = disk(tmp_path)
    keep.put(str(path), POOL, TEXT, "node-0", NOW)
    status, said, _ = ran("restore", path)
    found = list(yaml.safe_load_all(said))
    assert (status, [one["kind"] for one in found]) == (0, ["HAPool", "HAHost", "HAHost", "ProtectedVM"])
    assert found[0]["metadata"] == {"name": "p", "annotations": {"mine": "yes"}}
    assert found[3]["metadata"] == {"name": "db", "namespace": "shop"}
    assert all(set(one) == {"apiVersion", "kind", "metadata", "spec"} for one in found)
    assert HAPool.model_validate(found[0]).spec.heartbeat.storage.device_path == "/dev/x"


def test_the_plan_of_the_backup_is_shown(tmp_path: Path) -> None:
    path = disk(tmp_path)
    keep.put(str(path), POOL, TEXT, "node-0", NOW)
    status, said, _ = ran("backup", path)
    lines = [line.split() for line in said.splitlines()]
    assert status == 0
    assert ["node-1", "1"] in lines
    assert ["shop/db", "node-0", "node-1", "-"] in lines
    assert "a plan existed for 1 host failures" in said


def test_the_backup_is_written_on_change_only_and_in_turn(tmp_path: Path) -> None:
    path = str(disk(tmp_path))
    first = keep.put(path, POOL, TEXT, "node-0", NOW)
    assert first is not None
    assert keep.put(path, POOL, document.compose(*manifests()), "node-1", NOW) is None, "what only the server changes is no change"
    second = keep.put(path, POOL, document.compose(*manifests(wish=2)), "node-0", NOW)
    with Device(path) as device:
        assert device.backups() == [first, second]
    assert (first.generation, second.generation if second else 0) == (1, 2)


def test_a_disk_of_another_pool_or_with_other_data_gets_no_backup(tmp_path: Path) -> None:
    path = disk(tmp_path, header=slot.encode_header(OTHER))
    with pytest.raises(Unusable, match=f"it belongs to pool {OTHER.hex()}, not to {POOL.hex()}"):
        keep.put(str(path), POOL, TEXT, "node-0", NOW)
    path = disk(tmp_path)
    with path.open("r+b") as file:
        file.seek(backup.offset_of(1))
        file.write(b"somebody's data")
    before = path.read_bytes()
    with pytest.raises(Unusable, match=f"byte {backup.offset_of(1)}: something else than Quorate wrote there; it is left alone"):
        keep.put(str(path), POOL, TEXT, "node-0", NOW)
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", [backup.offset_of(0) + 65536, backup.offset_of(1) + 4096, backup.END_BYTES - 1])
def test_the_first_backup_is_not_written_over_anything_in_its_room(tmp_path: Path, at: int) -> None:
    """What lies there need not begin where a copy begins."""
    path = disk(tmp_path)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"x")
    before = path.read_bytes()
    with pytest.raises(Unusable, match=f"byte {at}: something else than Quorate wrote there; it is left alone"):
        keep.put(str(path), POOL, TEXT, "node-0", NOW)
    assert path.read_bytes() == before


def test_a_first_backup_that_tears_is_known_as_ours_and_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = disk(tmp_path), Device.write

    def tear(device: Device, offset: int, data: bytes) -> None:
        if len(data) > slot.BLOCK_BYTES:
            real(device, offset + slot.BLOCK_BYTES, data[slot.BLOCK_BYTES :])  # all but the block that comes first
            raise Unusable("torn")
        real(device, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(Device, "write", tear)
        with pytest.raises(Unusable, match="torn"):
            keep.put(str(path), POOL, document.compose(*manifests(wish=2)), "node-0", NOW)
    assert keep.put(str(path), POOL, TEXT, "node-0", NOW) is not None


def test_only_objects_of_quorate_are_ever_restored(tmp_path: Path) -> None:
    """Whoever can write the disk must not get anything else applied."""
    path = disk(tmp_path)
    bad = json.loads(TEXT)
    bad["manifests"][1] = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "x"}}
    keep.put(str(path), POOL, json.dumps(bad), "node-0", NOW)
    status, said, why = ran("restore", path)
    assert (status, said) == (2, "")
    assert "manifests[1]: a ClusterRoleBinding of rbac.authorization.k8s.io/v1 is none of Quorate's objects" in why


def test_the_process_of_the_backup_writes_what_report_hands_over(tmp_path: Path) -> None:
    path, run = disk(tmp_path), tmp_path / "run"
    run.mkdir()
    member = wire.MemberAddress("node-0", 0, ("10.0.0.1",))
    config = wire.PulseConfig("p", POOL.hex(), True, "", 20, 8, "/dev/watchdog", (str(path),), 6940, b"k" * 32, (member,))
    (run / wire.CONFIG_FILE).write_text(config.to_json())
    (run / document.FILE).write_text(TEXT)
    words = [sys.executable, "-m", "quorate_agent.statefile", "keep", "--run-dir", str(run), "--node", "node-0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert f"{path}: backup of generation 1" in process.stderr.readline()
    finally:
        process.kill()
        process.wait()
    assert ran("restore", path)[0] == 0


# which host, and what


def host(name: str, index: int | None, phase: str = "Live", pool: str = "p") -> HAHost:
    return HAHost.model_validate({"metadata": {"name": name}, "spec": {"pool": pool}, "status": {"slot": index, "phase": phase}})


class Scripted:
    """The API server's answers."""

    def __init__(self, hosts: list[HAHost]) -> None:
        pool, members, vms = manifests()
        others = [{**vms[0], "metadata": {"name": "x", "namespace": "y"}, "spec": {"pool": "other"}}]
        self._hosts, self._objects = hosts, {"hapools": [pool], "hahosts": members, "protectedvms": [*others, *vms]}

    async def hosts(self) -> list[HAHost]:
        return self._hosts

    async def listed(self, plural: str) -> list[dict[str, Any]]:
        return self._objects[plural]


def test_the_live_host_with_the_lowest_slot_hands_over_the_objects_of_its_own_pool() -> None:
    hosts = [host("x", 0, pool="other"), host("a", 1, "Lost"), host("new", None, "Joining"), host("c", 3), host("b", 2)]
    assert handing.writer(hosts, "p") == "b"
    assert handing.writer([host("a", 1, "Lost")], "p") is None
    assert asyncio.run(handing.wanted(Scripted(hosts), "b")) == TEXT
    assert asyncio.run(handing.wanted(Scripted(hosts), "c")) is None
    assert asyncio.run(handing.wanted(Scripted(hosts), "stranger")) is None

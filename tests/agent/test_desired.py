"""What report makes of the API's objects: the configuration of pulse, or one sentence that names what is missing."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quorate_agent import wire
from quorate_agent.report import desired
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"k" * 32
UID = "5f0c1f3e-0000-4000-8000-000000000001"


def pool(uid: str | None = UID, in_force: dict[str, Any] | None = None, **spec: Any) -> HAPool:
    """A pool whose disks are in force as its spec names them, unless others are given; {}: the controller has not yet seen it."""
    wished = {"heartbeat": {"storage": {"devicePath": "/dev/shared"}}, **spec}
    present = {"storage": wished["heartbeat"]["storage"], "generation": 1} if in_force is None else in_force
    status = {"heartbeat": present} if present else {}
    return HAPool.model_validate({"metadata": {"name": "p", "uid": uid}, "spec": wished, "status": status})


def host(name: str, slot: int | None = 0, address: str | None = "10.0.0.1", of: str = "p", phase: str | None = None) -> HAHost:
    status = {"slot": slot, "address": address, "phase": phase}
    return HAHost.model_validate({"metadata": {"name": name}, "spec": {"pool": of}, "status": status})


HOSTS = [
    host("a"),
    host("b", 1, "10.0.0.2"),
    host("c", 2, "10.0.0.3", phase="Maintenance"),
    host("x", 0, "10.0.0.9", of="other"),
    host("n", None, None),
]


def configured(
    pool_object: HAPool, hosts: list[HAHost] = HOSTS, key: bytes | None = KEY, me: str = "a"
) -> wire.PulseConfig | desired.Unready:
    return desired.configuration(me, pool_object, hosts, key, NOW)


def test_the_members_are_the_hosts_of_this_pool_that_have_a_slot_and_those_in_maintenance_are_excluded() -> None:
    config = configured(pool())
    assert isinstance(config, wire.PulseConfig)
    assert [(m.host, m.slot, m.addresses, m.excluded) for m in config.members] == [
        ("a", 0, ("10.0.0.1",), False), ("b", 1, ("10.0.0.2",), False), ("c", 2, ("10.0.0.3",), True),
    ]  # fmt: skip
    assert (config.licence_seconds, config.watchdog_seconds) == (20, 8)
    assert wire.PulseConfig.from_json(config.to_json()) == config


def test_profile_and_timing_set_the_two_inputs() -> None:
    heartbeat = {"storage": {"devicePath": "/dev/shared"}}
    fast = configured(pool(heartbeat={**heartbeat, "profile": "Fast"}))
    own = configured(pool(heartbeat={**heartbeat, "timing": {"licenceSeconds": 6, "watchdogSeconds": 2}}))
    assert isinstance(fast, wire.PulseConfig)
    assert isinstance(own, wire.PulseConfig)
    assert (fast.licence_seconds, fast.watchdog_seconds, own.licence_seconds, own.watchdog_seconds) == (12, 5, 6, 2)


def test_weights_and_all_disks_reach_pulse() -> None:
    storage = {"devicePath": "/dev/one", "additionalDevicePaths": ["/dev/two", "/dev/three"]}
    heavy = HAHost.model_validate({**host("a").model_dump(by_alias=True), "spec": {"pool": "p", "weight": 7}})
    config = configured(pool(heartbeat={"storage": storage}), [heavy])
    assert isinstance(config, wire.PulseConfig)
    assert config.disks == ("/dev/one", "/dev/two", "/dev/three")
    assert (config.core().disks, config.core().members[0].weight) == (config.disks, 7)
    assert wire.PulseConfig.from_json(config.to_json()) == config


def test_the_disks_are_those_in_force_and_never_those_that_the_spec_wishes() -> None:
    """They come with the number of times that they were changed: disks that were the pool's before hold what was left on them then."""
    present = {"storage": {"devicePath": "/dev/old", "additionalDevicePaths": ["/dev/two", "/dev/three"]}, "generation": 3}
    config = configured(pool(in_force=present, heartbeat={"storage": {"devicePath": "/dev/new"}}))
    assert isinstance(config, wire.PulseConfig)
    assert (config.disks, config.disks_generation) == (("/dev/old", "/dev/two", "/dev/three"), 3)
    assert (config.core().disks, config.core().disks_generation) == (config.disks, 3)
    assert wire.PulseConfig.from_json(config.to_json()) == config


def test_the_same_disks_a_second_time_are_other_disks_to_all_who_compare() -> None:
    first = configured(pool())
    again = configured(pool(in_force={"storage": {"devicePath": "/dev/shared"}, "generation": 3}))
    assert isinstance(first, wire.PulseConfig)
    assert isinstance(again, wire.PulseConfig)
    assert first.disks == again.disks
    assert first.core().disks_digest != again.core().disks_digest
    assert first.core().hash != again.core().hash


def test_a_claim_in_force_is_where_a_pod_maps_that_claim_and_no_other() -> None:
    """A pod that is rolled out with another claim, under a licence, finds no disk, rather than a copy of it."""
    config = configured(pool(in_force={"storage": {"claimName": "beat"}, "generation": 2}))
    assert isinstance(config, wire.PulseConfig)
    assert (config.disks, config.disks_generation) == (("/dev/quorate-heartbeat-beat",), 2)


def test_a_storage_class_is_refused_as_nobody_makes_a_claim_from_it() -> None:
    refused = configured(pool(in_force={"storage": {"storageClassName": "fast"}, "generation": 1}))
    assert isinstance(refused, desired.Unready)
    assert "spec.heartbeat.storage.storageClassName: no claim is made from it" in refused.why


PATHS = {"storage": {"devicePath": "/dev/shared"}, "network": {"interfaces": ["red", "blue"]}}


def reporting(name: str, slot: int, *addresses: str) -> HAHost:
    """A host whose agent has reported these addresses."""
    known = host(name, slot, f"10.0.0.{slot + 1}")
    agent = {"addresses": list(addresses)}
    return HAHost.model_validate({**known.model_dump(by_alias=True), "status": {**known.status.model_dump(by_alias=True), "agent": agent}})


def test_each_host_finds_its_own_addresses_and_takes_the_others_from_their_reports() -> None:
    hosts = [reporting("a", 0, "10.9.9.9"), reporting("b", 1, "10.1.0.2", "10.2.0.2"), reporting("c", 2), reporting("d", 3, "", "10.2.0.4")]
    config = desired.configuration("a", pool(heartbeat=PATHS), hosts, KEY, NOW, ("10.1.0.1", "10.2.0.1"))
    assert isinstance(config, wire.PulseConfig)
    assert [m.addresses for m in config.members] == [
        ("10.1.0.1", "10.2.0.1"), ("10.1.0.2", "10.2.0.2"), ("10.0.0.3",), ("", "10.2.0.4"),
    ]  # fmt: skip
    assert (config.path_name(0), config.path_name(1)) == ("red", "blue")
    assert wire.PulseConfig.from_json(config.to_json()) == config


def test_a_host_with_an_address_on_none_of_the_interfaces_is_told_which_were_meant() -> None:
    found = desired.configuration("a", pool(heartbeat=PATHS), [host("a")], KEY, NOW, ("", ""))
    assert isinstance(found, desired.Unready)
    assert found.why == "HAPool p: spec.heartbeat.network.interfaces: host a has no address on any of red, blue"


def test_a_file_of_an_older_report_with_one_disk_and_one_address_is_read() -> None:
    assert isinstance(GOOD, wire.PulseConfig)
    fields = json.loads(GOOD.to_json())
    fields["disk"] = fields.pop("disks")[0]
    for member in fields["members"]:
        member["address"] = member.pop("addresses")[0]
    del fields["interfaces"], fields["disksGeneration"]
    assert wire.PulseConfig.from_json(json.dumps(fields)) == replace(GOOD, disks_generation=0), "it did not count changes of the disks"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("disks", [], "disks: it is empty"),
        ("disks", ["/a", "/a"], "disks: one is named twice"),
        ("disks", ["/a", "/b", "/c", "/d"], "a pool has 1 to 3 heartbeat disks, not 4"),
        ("disks", [5], "disks: [5] is not a list of texts"),
        ("disksGeneration", -1, "disksGeneration: -1 is negative"),
        ("disksGeneration", True, "disksGeneration: True is not a int"),
        ("disksGeneration", "2", "disksGeneration: '2' is not a int"),
        ("interfaces", "red", "interfaces: 'red' is not a list"),
        ("members", [{"host": "a", "slot": 0, "addresses": ["10.0.0.1", "10.0.0.2"]}], "members[0].addresses: 2 addresses for 1 paths"),
        ("members", [{"host": "a", "slot": 0, "addresses": ["10.0.0.1"], "weight": -1}], "weight -1 is not within"),
    ],
)
def test_bad_lists_in_a_config_file_are_refused_by_field(field: str, value: Any, words: str) -> None:
    assert isinstance(GOOD, wire.PulseConfig)
    with pytest.raises(wire.BadMessage) as error:
        wire.PulseConfig.from_json(json.dumps({**json.loads(GOOD.to_json()), field: value}))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("wish", "enabled"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"pausedUntil": NOW + timedelta(minutes=1)}, False),
        ({"pausedUntil": NOW - timedelta(minutes=1)}, True),
    ],
    ids=["enabled", "disabled", "paused", "pause is over"],
)
def test_a_pool_is_disarmed_while_it_is_disabled_or_paused(wish: dict[str, Any], enabled: bool) -> None:
    config = configured(pool(**wish))
    assert isinstance(config, wire.PulseConfig)
    assert config.enabled is enabled
    assert bool(config.disabled_reason) is not enabled


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (configured(pool(), key=None), "Secret quorate-heartbeat: it is missing"),
        (configured(pool(), key=b"short"), "`key` has 5 bytes"),
        (configured(pool(), me="n"), "HAHost n: the controller has not yet given it a slot"),
        (configured(pool(uid=None)), "HAPool p: it has no uid"),
        (configured(pool(in_force={})), "HAPool p: status.heartbeat: the controller has not yet taken over the pool's heartbeat disks"),
        (configured(pool(), [host("a"), host("b", 0, "10.0.0.2")]), "a slot appears twice"),
    ],
    ids=["no secret", "short key", "no slot", "no uid", "disks not in force", "slot twice"],
)
def test_what_is_missing_is_named_by_object_and_field(found: wire.PulseConfig | desired.Unready, words: str) -> None:
    assert isinstance(found, desired.Unready)
    assert words in found.why


GOOD = configured(pool())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"port": 6940', '"port": 0'), "port: 0 is not within"),
        (('"port": 6940', '"port": "x"'), "port: 'x' is not a int"),
        (('"slot": 0', '"slot": 64'), "slot 64 is not within"),
        (('"10.0.0.1"', '"not an address"'), "members[0].addresses"),
        (('"version": 1', '"version": 2'), "version 2; this agent speaks version 1"),
        (('"licenceSeconds": 20.0', '"licenceSeconds": 1'), "too short"),
        (("{", ""), "not JSON"),
    ],
    ids=["port", "port type", "slot", "address", "version", "timing", "cut"],
)
def test_a_bad_config_file_is_refused_by_field(change: tuple[str, str], words: str) -> None:
    assert isinstance(GOOD, wire.PulseConfig)
    text = GOOD.to_json()
    assert change[0] in text
    with pytest.raises(wire.BadMessage) as error:
        wire.PulseConfig.from_json(text.replace(*change, 1))
    assert words in str(error.value)


def test_an_armed_host_keeps_the_key_that_it_armed_with_and_says_so() -> None:
    """A host that cannot reach the API for the new one would hear nobody any more, and be evicted."""
    old, new = configured(pool()), configured(pool(), key=b"n" * 32, hosts=HOSTS[:2])
    assert isinstance(old, wire.PulseConfig)
    assert isinstance(new, wire.PulseConfig)
    kept, waits = desired.binding(new, old, armed=True)
    assert (kept.key, len(kept.members)) == (KEY, 2), "all else is taken over"
    assert "disarmed and armed again" in waits
    assert desired.binding(new, old, armed=False) == (new, "")
    assert desired.binding(new, None, armed=True) == (new, "")
    another = configured(pool(uid="5f0c1f3e-0000-4000-8000-000000000002"), key=b"n" * 32)
    assert isinstance(another, wire.PulseConfig)
    assert desired.binding(another, old, armed=True) == (another, "")

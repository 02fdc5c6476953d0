"""One real control plane with KubeVirt and Quorate's chart for the whole session; a fresh namespace for each test.

Controllers and hosts are started by the tests that need them: whoever starts one stops it (`controllers`, `light_hosts`).
"""

import secrets
from collections.abc import Callable, Iterator

import pytest

from quorate_local import pool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder carries the marker."""
    for item in items:
        if "tests/cluster/" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[pool.LocalPool]:
    """The control plane, KubeVirt and the chart; no controller and no host runs yet."""
    with pool.local_pool(lambda text: None) as local:
        yield local


@pytest.fixture
def namespace(cluster: pool.LocalPool) -> Iterator[str]:
    """A namespace of the test's own, ready for pods; deleted afterwards (not waited for)."""
    name = f"test-{secrets.token_hex(3)}"
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    cluster.eventually(lambda: cluster.api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), f"{name} has its service account")
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def controllers(cluster: pool.LocalPool) -> Iterator[tuple[str, str]]:
    """Two ready controller replicas; their names. They are killed afterwards."""
    names = ("controller-a", "controller-b")
    for name in names:
        cluster.start_controller(name, wait=False)
    for name in names:
        cluster.eventually(lambda name=name: cluster.quorate.controller_ready(name), f"{name} is ready")  # type: ignore[misc]
    yield names
    for name in names:
        cluster.kill_controller(name)


@pytest.fixture
def light_hosts(cluster: pool.LocalPool) -> Iterator[Callable[..., list[str]]]:
    """Makes light hosts (see `LocalPool.light_hosts`) with a prefix of their own; they are gone afterwards, and their HAHosts."""
    made: list[str] = []

    def make(count: int, *, memory: str = "32Gi", labels: dict[str, str] | None = None) -> list[str]:
        prefix = f"light{secrets.token_hex(2)}"
        made.append(prefix)
        return cluster.light_hosts(count, memory=memory, prefix=prefix, labels=labels)

    yield make
    for prefix in made:
        cluster.light_hosts_gone(prefix)

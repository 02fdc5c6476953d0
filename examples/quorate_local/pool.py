"""The local pool as one object: what the demo and the tests hold in their hands.

Composes the other modules; decides nothing about high availability.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from quorate_local import api, binaries, control_plane, kubevirt, processes, runs
from quorate_local.problem import Problem

Say = Callable[[str], None]

GATEWAY = "10.213.0.1"


class LocalPool:
    """A control plane with KubeVirt, and whatever hosts, controllers and VMs are added to it."""

    def __init__(self, run: runs.Run, found: binaries.Binaries, say: Say) -> None:
        self.run = run
        self.binaries = found
        self.say = say
        self.processes = processes.Processes(run)
        self._plane: control_plane.ControlPlane | None = None

    @property
    def plane(self) -> control_plane.ControlPlane:
        """The control plane, once started."""
        assert self._plane is not None
        return self._plane

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.plane.kubeconfig

    @property
    def api(self) -> api.Api:
        """An administrator's client."""
        return self.plane.api

    def start(self, *, port: int | None = None) -> None:
        """Start the control plane and KubeVirt. Raises Problem."""
        self._plane = control_plane.start(self.processes, self.binaries, port=port, extra_names=(GATEWAY,))
        kubevirt.start(self.processes, self.binaries, self.plane)

    def stop(self) -> None:
        """Stop everything and delete the run's folder."""
        self.processes.stop_all()
        self.run.give_up()

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints (both streams where it fails and `check` is off).

        Raises Problem with kubectl's message when it fails and `check` is on.
        """
        return self._client("kubectl", args, stdin, check)

    def virtctl(self, *args: str, check: bool = True) -> str:
        """The same for virtctl."""
        return self._client("virtctl", args, None, check)

    def _client(self, name: str, args: tuple[str, ...], stdin: str | None, check: bool) -> str:
        done = subprocess.run(
            [self.binaries[name], *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), runs.MARK: self.run.name},
        )
        if done.returncode and check:
            raise Problem(f"`{name} {' '.join(args)}` failed: {done.stderr.strip()}")
        return done.stdout + (done.stderr if done.returncode else "")


@contextlib.contextmanager
def local_pool(say: Say = print, *, port: int | None = None) -> Iterator[LocalPool]:
    """A started pool; nothing of it is left afterwards, whatever happens inside."""
    found = binaries.ensure(say)
    pool = LocalPool(runs.claim(), found, say)
    try:
        pool.start(port=port)
        yield pool
    finally:
        pool.stop()

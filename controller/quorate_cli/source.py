"""Where a command reads the pool from: files and standard input, or the live API server. Nothing is decided here."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quorate_controller import kube, membership, observe, translate
from quorate_controller.observe import BadInput, Observed
from quorate_core.facts import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """What the common options said. Without files, the cluster of the kubeconfig is read."""

    files: tuple[Path, ...] = ()
    kubeconfig: Path | None = None
    context: str | None = None
    pool: str | None = None

    def observed(self) -> Observed:
        """Everything there is. Raises BadInput (files) or KubeError (cluster)."""
        if self.files:
            return observe.parse_dump([(str(path), _read(path)) for path in self.files])
        return asyncio.run(self._live())

    def snapshots(self, observed: Observed | None = None) -> list[Snapshot]:
        """One snapshot for the named pool, or one for each. Raises BadInput naming object and field."""
        seen = observed if observed is not None else self.observed()
        names = [self.pool] if self.pool else [membership.described(obj).removeprefix("HAPool ") for obj in seen.hapools]
        if not names:
            raise BadInput("input", "HAPool", "there is none; give the pool's manifest too, or say how many failures with --failures")
        return [translate.snapshot_of(seen, name) for name in names]

    async def _live(self) -> Observed:
        api = await kube.Kube.connect(self.kubeconfig, self.context)
        try:
            return await observe.observe(api)
        finally:
            await api.close()


def _read(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text()
    except OSError as error:
        raise BadInput(str(path), "", error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise BadInput(str(path), "", "is not text") from None


def read_bytes(paths: Sequence[Path]) -> list[tuple[Path, bytes]]:
    """Whole files. Raises BadInput naming the file."""
    found = []
    for path in paths:
        try:
            found.append((path, sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()))
        except OSError as error:
            raise BadInput(str(path), "", error.strerror or "cannot be read") from None
    return found

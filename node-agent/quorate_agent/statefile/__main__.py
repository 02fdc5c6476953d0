"""`quorate-statefile`: makes, shows and checks heartbeat disks, and reads their backup. Exit: 0 done, 1 unsound or refused, 2 unusable.

Only `create` and `keep` write. Nothing here is needed while a pool lives, but `keep`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from quorate_agent.statefile import create, describe, keep, restore, verify
from quorate_agent.statefile.describe import Read
from quorate_agent.statefile.device import Device, Unusable
from quorate_agent.voice import Voice
from quorate_core import backup

_BROKEN, _UNUSABLE = 1, 2


def _read(path: str) -> Read:
    with Device(path) as device:
        copies = [device.copy(number) for number in range(backup.COPIES)]
        return Read(path, device.size_bytes, device.cached, device.header(), device.slots(), copies)


def _create(options: argparse.Namespace) -> int:
    pool_id = options.pool_id if options.pool is None else _asked(options.pool, options.kubeconfig)
    try:
        create.create(options.path, pool_id, options.force.hex() if options.force else None, print)
    except Unusable as why:
        print(f"quorate-statefile: {why}", file=sys.stderr)
        return _BROKEN
    return 0


def _dump(options: argparse.Namespace) -> int:
    read = _read(options.path)
    print(json.dumps(describe.to_json(read), indent=1) if options.output == "json" else describe.to_text(read))
    return 0


def _verify(options: argparse.Namespace) -> int:
    read = _read(options.path)
    faults = verify.faults(read)
    for fault in faults:
        print(f"{options.path}: {fault}")
    if not faults:
        print(verify.summary(read))
    return _BROKEN if faults else 0


def _backup(options: argparse.Namespace) -> int:
    print(restore.to_table(*restore.newest(options.path)))
    return 0


def _restore(options: argparse.Namespace) -> int:
    print(restore.to_yaml(*restore.newest(options.path)), end="")
    return 0


def _keep(options: argparse.Namespace) -> int:
    voice = Voice("quorate-statefile")
    os.nice(10)  # it may always wait for those that the host's life depends on
    keep.Keeper(options.node, options.run_dir.resolve(strict=True), voice.say).run()
    return 0


def _asked(name: str, kubeconfig: Path | None) -> bytes:
    # Here, because a host may lack an API client, and because `keep` is to stay small.
    import asyncio

    from quorate_agent.report.api import Api, NoAnswer

    async def ask() -> str:
        api = await Api.connect(kubeconfig)
        try:
            return (await api.pool(name)).metadata.uid or ""
        finally:
            await api.close()

    try:
        return _pool_id(asyncio.run(ask()))
    except NoAnswer as error:
        raise Unusable(f"--pool {name}: {error}; or give --pool-id") from error


def _pool_id(text: str) -> bytes:
    """The pool's id: its HAPool's uid, with or without dashes."""
    try:
        found = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        found = b""
    if len(found) != 16 or not any(found):
        raise argparse.ArgumentTypeError(f"{text!r} is no pool id: the HAPool's metadata.uid, 32 hex digits with or without dashes")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quorate-statefile", description="Make, show and check heartbeat disks; read their backup.")
    verbs = parser.add_subparsers(dest="verb", required=True)

    made = verbs.add_parser("create", help="bind an empty disk to a pool")
    made.add_argument("path", help="block device or file")
    whose = made.add_mutually_exclusive_group(required=True)
    whose.add_argument("--pool-id", type=_pool_id, help="metadata.uid of the HAPool")
    whose.add_argument("--pool", help="name of the HAPool; its id is asked of the API server")
    made.add_argument("--kubeconfig", type=Path, help="credentials for --pool; default: as kubectl finds them")
    made.add_argument("--force", type=_pool_id, metavar="POOL_ID", help="destroy what the disk holds; type the pool's id once more")
    made.set_defaults(act=_create)

    shown = verbs.add_parser("dump", help="show what a disk says")
    shown.add_argument("path", help="block device, file, or a copy of one")
    shown.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: table")
    shown.set_defaults(act=_dump)

    checked = verbs.add_parser("verify", help="check every block: exit 0 sound, 1 not, 2 cannot be read")
    checked.add_argument("path", help="block device, file, or a copy of one")
    checked.set_defaults(act=_verify)

    told = verbs.add_parser("backup", help="show the plan of the newest backup")
    told.add_argument("path", help="block device, file, or a copy of one")
    told.set_defaults(act=_backup)

    restored = verbs.add_parser("restore", help="print the backup's manifests, for kubectl apply -f -")
    restored.add_argument("path", help="block device, file, or a copy of one")
    restored.set_defaults(act=_restore)

    kept = verbs.add_parser("keep", help="the agent's process that writes the backup")
    kept.add_argument("--run-dir", required=True, type=Path, help="folder on the host's tmpfs shared by the agent's processes")
    kept.add_argument("--node", required=True, help="name of this host, for the backup's `writtenBy`")
    kept.set_defaults(act=_keep)
    return parser


def main() -> int:
    """The command `quorate-statefile`."""
    options = _parser().parse_args()
    try:
        return int(options.act(options))
    except (Unusable, OSError, argparse.ArgumentTypeError) as why:
        print(f"quorate-statefile: {why}", file=sys.stderr)
        return _UNUSABLE


if __name__ == "__main__":
    sys.exit(main())

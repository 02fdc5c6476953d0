"""What keeper and pulse do alike to become a process: read the boot id, enter the run folder, ask the kernel for its best, heed SIGTERM."""

import argparse
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from quorate_agent import realtime
from quorate_agent.messages import BadMessage
from quorate_agent.voice import Voice

_HELP_COLUMNS = 100


class Process(Protocol):
    """A loop that is asked to stop, and decides itself whether it may."""

    stop_asked: bool

    def run(self) -> None:
        """Work until that."""


def arguments(program: str, what: str) -> argparse.ArgumentParser:
    """A parser of the options that both have, for the program of that name."""
    # Of a fixed width: to ask the terminal for its own, argparse would load shutil and three compressors, half a megabyte for ever.
    formatter = partial(argparse.HelpFormatter, width=_HELP_COLUMNS)
    parser = argparse.ArgumentParser(prog=program, description=what, formatter_class=formatter)
    parser.add_argument("--run-dir", required=True, type=Path, help="folder on the host's tmpfs shared by the agent's processes")
    parser.add_argument("--boot-id-file", type=Path, default=Path("/proc/sys/kernel/random/boot_id"), help="file with the id of this boot")
    return parser


def live(options: argparse.Namespace, voice: Voice, priority: int, make: Callable[[Path, str], Process]) -> int:
    """Make the process (in the run folder, with the boot id) and run it; the exit status."""
    # Before the first thread is made: threads inherit what is granted here.
    for refused in realtime.harden(priority):
        voice.say(refused, loud=True)
    try:
        boot_id = options.boot_id_file.read_text().strip()
        folder = options.run_dir.resolve(strict=True)
        os.chdir(folder)  # a socket's path may have 107 bytes only; relative names are short
        process = make(folder, boot_id)
    except (OSError, ValueError, BadMessage) as error:
        voice.say(f"cannot start: {error}", loud=True)
        return 1

    def stop(*_: object) -> None:
        process.stop_asked = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    process.run()
    return 0

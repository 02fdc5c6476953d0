"""`quorate-controller`: arguments, logging, and the event loop."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime

from quorate_controller.kube import KubeError
from quorate_controller.serve import serve
from quorate_controller.settings import Settings, read

log = logging.getLogger("quorate_controller")


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Settings) -> None:
    """Log to standard error; libraries only from WARNING on."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log_format == "json" else plain)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("quorate_controller").setLevel(settings.log_level)


def main() -> None:
    """Run a replica; exit code 0 after a signal, 1 when a part of it failed."""
    settings = read()
    configure_logging(settings)
    try:
        asyncio.run(serve(settings))
    except KubeError as error:
        log.critical("%s", error)
        sys.exit(1)
    except ExceptionGroup as failed:
        for leaf in _leaves(failed):
            expected = isinstance(leaf, KubeError | OSError)
            log.critical("%s", leaf or type(leaf).__name__, exc_info=None if expected else leaf)
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    main()

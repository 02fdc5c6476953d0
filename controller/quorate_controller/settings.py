"""The controller's settings: command line, with the environment for what a pod knows only there. The only reader of either."""

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Settings:
    """How this replica runs. Durations are in seconds.

    A lease is renewed every `lease_renew_seconds`; its holder exits when it could not renew for `lease_surrender_seconds`, which is
    less than the `lease_seconds` after which another replica may take it.
    """

    namespace: str = "quorate-system"
    identity: str = ""
    kubeconfig: Path | None = None
    context: str | None = None
    lead: bool = True
    webhook: bool = True
    webhook_host: str = "0.0.0.0"
    webhook_port: int = 9443
    webhook_cert: Path = Path("/etc/quorate/webhook/tls.crt")
    webhook_key: Path = Path("/etc/quorate/webhook/tls.key")
    health_host: str = "0.0.0.0"
    health_port: int = 8080
    lease_name: str = "quorate-controller"
    lease_seconds: float = 15.0
    lease_surrender_seconds: float = 10.0
    lease_renew_seconds: float = 2.0
    tick_seconds: float = 5.0
    debounce_seconds: float = 0.5
    log_level: str = "INFO"
    log_format: Literal["text", "json"] = "text"

    def __post_init__(self) -> None:
        if not 0 < self.lease_renew_seconds < self.lease_surrender_seconds < self.lease_seconds:
            raise ValueError("a lease must be renewed more often than it is surrendered, and surrendered before it runs out")


def read(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the command line. Exits with code 2 and one sentence when an argument is wrong."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="quorate-controller", description="Plans, watches and restarts the VMs of HAPools; answers admission requests."
    )
    add = parser.add_argument
    add("--kubeconfig", type=Path, help="kubeconfig file (default: the pod's service account, else $KUBECONFIG)")
    add("--context", help="context of the kubeconfig")
    add("--namespace", default=environment.get("POD_NAMESPACE") or default.namespace, help="Quorate's own namespace (%(default)s)")
    add("--identity", default=environment.get("POD_NAME") or socket.gethostname(), help="name of this replica (%(default)s)")
    add("--webhook-host", default=default.webhook_host, help="address of the admission webhook (%(default)s)")
    add("--webhook-port", type=_port, default=default.webhook_port, help="port of the admission webhook (%(default)s)")
    add("--webhook-cert", type=Path, default=default.webhook_cert, help="its certificate, PEM (%(default)s)")
    add("--webhook-key", type=Path, default=default.webhook_key, help="its private key, PEM (%(default)s)")
    add("--no-webhook", action="store_true", help="answer no admission requests")
    add("--no-lead", action="store_true", help="only answer admission requests; in large pools planning must not delay them")
    add("--health-host", default=default.health_host, help="address of /livez, /readyz and /metrics (%(default)s)")
    add("--health-port", type=_port, default=default.health_port, help="their port (%(default)s)")
    add("--log-level", type=str.upper, choices=["DEBUG", "INFO", "WARNING", "ERROR"], default=default.log_level, help="(%(default)s)")
    add("--log-format", choices=["text", "json"], default=default.log_format, help="lines for people or for machines (%(default)s)")
    found = parser.parse_args(arguments)
    if found.no_lead and found.no_webhook:
        parser.error("--no-lead and --no-webhook: nothing would be left to do")
    if not found.no_webhook:
        for option, path in (("--webhook-cert", found.webhook_cert), ("--webhook-key", found.webhook_key)):
            if not path.is_file():
                parser.error(f"{option} {path}: there is no such file; give one, or --no-webhook")
    return Settings(
        namespace=found.namespace,
        identity=found.identity,
        kubeconfig=found.kubeconfig,
        context=found.context,
        lead=not found.no_lead,
        webhook=not found.no_webhook,
        webhook_host=found.webhook_host,
        webhook_port=found.webhook_port,
        webhook_cert=found.webhook_cert,
        webhook_key=found.webhook_key,
        health_host=found.health_host,
        health_port=found.health_port,
        log_level=found.log_level,
        log_format=found.log_format,
    )


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)

"""The webhook's TLS certificate: one that is replaced is taken without a restart, one that is broken is not."""

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

import pytest

from quorate_controller.admission import server
from quorate_controller.settings import Settings
from quorate_local import pki

NO_CHECKS = ssl.create_default_context()
NO_CHECKS.check_hostname = False
NO_CHECKS.verify_mode = ssl.CERT_NONE


async def shown(port: int) -> bytes:
    """The certificate that a new connection gets to see."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=NO_CHECKS)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def test_a_certificate_that_is_replaced_is_taken_without_a_restart_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RENEW_SECONDS", 0.01)
    ca = pki.authority(tmp_path / "ca", "test")
    old, new = (ca.issue(name, common_name=name, hosts=("127.0.0.1",)) for name in ("old", "new"))
    settings = Settings(webhook_cert=tmp_path / "tls.crt", webhook_key=tmp_path / "tls.key")

    def put(cert: bytes, key: bytes, at: float) -> None:
        for path, content in ((settings.webhook_cert, cert), (settings.webhook_key, key)):
            path.write_bytes(content)
            os.utime(path, (at, at))

    async def play() -> list[bytes]:
        put(old.cert.read_bytes(), old.key.read_bytes(), 1000)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(settings.webhook_cert, settings.webhook_key)
        serving = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=tls)
        port = serving.sockets[0].getsockname()[1]
        renewing = asyncio.create_task(server._renew(tls, settings))
        seen = [await shown(port)]
        put(b"half of a", b"file", 2000)
        await asyncio.sleep(0.1)
        seen.append(await shown(port))
        put(new.cert.read_bytes(), new.key.read_bytes(), 3000)
        for _ in range(500):
            if (now := await shown(port)) != seen[0]:
                break
            await asyncio.sleep(0.02)
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        serving.close()
        return [*seen, now]

    first, second, third = asyncio.run(play())
    assert first == second == ssl.PEM_cert_to_DER_cert(old.cert.read_text())
    assert third == ssl.PEM_cert_to_DER_cert(new.cert.read_text())

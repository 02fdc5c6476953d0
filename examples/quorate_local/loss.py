"""The demo's host failure: a host that no longer proves that it is alive is fenced, certified, and its VMs restart; then it returns."""

import time

from quorate_local import restarted, seen, workload
from quorate_local.stage import Failed, Stage


def lose_a_host(stage: Stage, vms: dict[str, workload.DemoVm]) -> None:
    """A host can no longer prove that it is alive: fenced, certified, its VMs restarted in order on the planned hosts; it returns."""
    local = stage.local
    victim = seen.busiest_hosts(local)[0]
    planned = seen.planned(local, {victim.name})
    lives = {victim.name: seen.incarnations(local)[victim.name]}
    here = {n for n, host in seen.vm_hosts(local).items() if host == victim.name}
    stage.step(f"{victim.name} stops proving that it is alive: its agent is frozen, while its {len(here)} VMs still run and write")
    stage.run("kubectl", "get", "protectedvms", "-n", workload.NAMESPACE, "--sort-by=.spec.priority", lines=30)
    local.rack.reboot_after_seconds = None
    frozen_at = time.monotonic()
    victim.pause("pulse")
    stage.note(f"$ kill -STOP <pulse of {victim.name}>")
    stage.until(f"the watchdog has reset {victim.name}: fenced", lambda: not victim.is_on(), 60)
    stage.until("the survivors have certified it dead", lambda: bool(seen.certificate(local, victim.name, lives[victim.name])), 120)
    certified_seconds = time.monotonic() - frozen_at
    certificate = seen.certificate(local, victim.name, lives[victim.name])
    stage.note(f"certificate: {seen.text_of(certificate, 'evidence')}")
    bound = float(seen.text_of(certificate, "boundSeconds") or 0)
    silent = float(seen.text_of(certificate, "silentSeconds") or 0)
    if silent < bound:
        raise Failed(f"the certificate was issued after {silent:.1f} s of silence, before the bound of {bound:.1f} s")
    stage.checked(
        "host loss: fenced first, then certified",
        f"silent {silent:.1f} s, bound R_s {bound:.1f} s, {certified_seconds:.0f} s after the freeze",
    )
    stage.until("every protected and best-effort VM runs again", lambda: here <= seen.elsewhere(local, {victim.name}), 120)
    stage.until("the failover is complete", lambda: seen.recovered(local, lives), 60)
    stage.run("kubectl", "get", "failovers")
    restarted.show(stage, "host loss", restarted.read(stage, lives, planned, vms, frozen_at), {victim.name})
    stage.step(f"{victim.name} is repaired and powered on")
    victim.power_on()
    stage.until(f"{victim.name} is Live again, its taint gone", lambda: seen.is_back(local, victim.name), 120)
    stage.run("kubectl", "get", "hapools,hahosts")
    stage.checked("host loss: the host returned", f"{victim.name} is Live with a new boot id and incarnation")

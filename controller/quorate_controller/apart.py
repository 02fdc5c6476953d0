"""Required pod anti-affinity as the planner counts it: labels of VMs that never share a host. Pure.

Kubernetes keeps a pod off every host where a pod runs that its term selects, *and* where a pod runs whose term selects it. So a term is
planned for only if everything it selects is a VM that carries the very same term: then each of them is kept from each other, by host, and
`facts.Vm.apart` says just that, of protected and other VMs alike. Whatever else a term selects, or selects the VM, makes it not agile: the
scheduler must never refuse what the planner has proven.

VMs are judged by their templates, from which their next pods are made, and by the pods that they have now. Labels that something else
than KubeVirt adds to a new launcher pod are not known here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from quorate_controller.kube import Json
from quorate_controller.memo import Memo
from quorate_controller.memory import dig
from quorate_core.facts import Vm

HOSTNAME = "kubernetes.io/hostname"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_FINISHED = frozenset({"Succeeded", "Failed"})
_UNKNOWN = "\0"
"""The value of a label that the next pod will have and nobody can name yet."""

Need = tuple[str, str, tuple[str, ...]]
"""A label's key, an operator, its values."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term. `namespaces` None: any. `odd` says why it is not planned for, whatever it selects."""

    namespaces: frozenset[str] | None
    needs: tuple[Need, ...]
    odd: str = ""

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels in that namespace is selected; yes where an operator is not known."""
        return (self.namespaces is None or namespace in self.namespaces) and all(_met(need, labels) for need in self.needs)

    @property
    def label(self) -> str:
        """The name of those whom the term keeps apart."""
        return f"{'/'.join(sorted(self.namespaces or ()))}: {', '.join(map(_text, self.needs)) or 'all'}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What applies to one VM: its labels, and why it is not agile."""

    labels: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Member:
    """A VM, or a pod that is there; `vm` is the VM that it belongs to, None for a pod of none."""

    name: str
    vm: str | None
    is_pod: bool
    namespace: str
    labels: Mapping[str, str]
    terms: frozenset[Term]
    host: str | None = None


def has_rules(obj: Json) -> bool:
    """Whether a VM, or a pod, has rules of its own."""
    return _has_terms(_template(obj) if obj["kind"] == "VirtualMachine" else _spec(obj))


class Neighbours:
    """Every VM and every pod that a rule may be about, indexed by what the rules ask for. Not changed once made."""

    def __init__(
        self,
        vms: Mapping[str, Json],
        pods: Iterable[Json],
        launched: Callable[[Json], str | None],
        memo: Memo | None = None,
        *,
        ruled: bool | None = None,
    ) -> None:
        """`launched` says which VM a pod belongs to; `ruled` whether any of them has a rule, where that is known. If none has, nothing is
        indexed."""
        self._vms: dict[str, _Member] = {}
        self._all: list[_Member] = []
        self._owners: dict[Term, list[_Member]] = {}
        self._by_label: dict[tuple[str, str], list[_Member]] = {}
        self._alien: dict[Term, tuple[_Member, ...]] = {}
        self._indexed: dict[str, Json] = {}
        self._source = vms
        if ruled is False:
            return
        templates, pods = tuple(vms.values()), tuple(pods)
        if not any(map(has_rules, (*templates, *pods))):
            return
        live = (pod for pod in pods if dig(pod, "status").get("phase") not in _FINISHED)
        known = memo or Memo()
        self._all = [known.of("vm that rules are about", (vm,), partial(_vm_member, vm)) for vm in templates]
        self._indexed = {member.name: vm for member, vm in zip(self._all, templates, strict=True)}
        self._vms = {member.name: member for member in self._all}
        self._all += [known.of("pod that rules are about", (pod,), partial(_pod_member, pod, launched)) for pod in live]
        for member in self._all:
            for term in member.terms:
                self._owners.setdefault(term, []).append(member)
        asked = {(key, value) for term in self._owners for key, operator, values in term.needs if operator == "In" for value in values}
        for member in self._all:
            for pair in asked.intersection(member.labels.items()):
                self._by_label.setdefault(pair, []).append(member)

    def silent(self, vms: Mapping[str, Json]) -> bool:
        """Whether there is no rule about any of these, which are the VMs that were indexed."""
        return vms is self._source and not self._owners

    def rule(self, key: str, vm: Json) -> Rule | None:
        """What applies to this VM, which may differ from the one that was indexed under its name; None if no rule is about it."""
        if self._indexed.get(key) is vm:
            return self._rules.get(key)
        if not self._owners and not _has_terms(_template(vm)):
            return None
        me = _vm_member(vm)
        return self._rule(me, [term for term in self._owners if term not in me.terms and term.selects(me.namespace, me.labels)])

    @cached_property
    def _rules(self) -> Mapping[str, Rule]:
        """What applies to the VMs that any rule is about."""
        away: dict[str, list[Term]] = {member.name: [] for member in self._vms.values() if member.terms}
        for term in self._owners:
            for member in self._selected(term):
                if not member.is_pod and term not in member.terms:
                    away.setdefault(member.name, []).append(term)
        return {name: self._rule(self._vms[name], terms) for name, terms in away.items()}

    @cached_property
    def taken(self) -> Mapping[str, frozenset[str]]:
        """By host the labels of VMs that cannot be started there, because a pod that is no VM has what their rule selects."""
        found: dict[str, set[str]] = {}
        for term in self._owners:
            for member in () if term.odd else self._aliens(term):
                if member.host is not None:
                    found.setdefault(member.host, set()).add(term.label)
        return {host: frozenset(labels) for host, labels in found.items()}

    def _rule(self, me: _Member, away: Iterable[Term]) -> Rule:
        reasons = []
        for term in sorted(me.terms, key=lambda term: (term.label, term.odd)):
            if why := self._unplannable(term, me):
                reasons.append(f"required podAntiAffinity: {why}")
        for term in away:
            other = next((owner for owner in self._owners[term] if owner.vm != me.vm), None)
            if other is not None:
                reasons.append(f"required podAntiAffinity of {_described(other)} keeps it away, and it has no such rule itself")
        labels = frozenset(term.label for term in me.terms if not term.odd and term.selects(me.namespace, me.labels))
        return Rule(labels, tuple(dict.fromkeys(reasons)))

    def _unplannable(self, term: Term, me: _Member) -> str:
        """Why a VM's own term is not planned for; empty if it is."""
        if term.odd:
            return term.odd
        if not term.selects(me.namespace, me.labels):
            return f"its selector ({term.label}) does not select the VM itself; only rules that keep alike VMs apart are planned for"
        alien = next((other for other in self._aliens(term) if other.vm != me.vm), None)
        return "" if alien is None else f"its selector ({term.label}) also selects {_described(alien)}, which has no such rule"

    def _aliens(self, term: Term) -> Sequence[_Member]:
        """What the term selects and what is not a VM that carries it, nor a pod of one."""
        if term not in self._alien:
            holders = ((member, self._vms.get(member.vm or "")) for member in self._selected(term))
            self._alien[term] = tuple(member for member, holder in holders if holder is None or term not in holder.terms)
        return self._alien[term]

    def _selected(self, term: Term) -> Iterator[_Member]:
        exact = next((need for need in term.needs if need[1] == "In"), None)
        candidates: Iterable[_Member] = self._all
        if exact is not None:
            candidates = (member for value in exact[2] for member in self._by_label.get((exact[0], value), ()))
        return (member for member in candidates if term.selects(member.namespace, member.labels))


def _vm_member(vm: Json) -> _Member:
    namespace, name = str(vm["metadata"].get("namespace") or "default"), str(vm["metadata"]["name"])
    template = dig(vm, "spec", "template")
    labels = {
        **_texts(dig(template, "metadata", "labels")),
        "kubevirt.io": "virt-launcher",
        "kubevirt.io/created-by": _UNKNOWN,
        "vm.kubevirt.io/name": name,
    }
    key = f"{namespace}/{name}"
    return _Member(key, key, False, namespace, labels, _terms(dig(template, "spec"), namespace))


def _pod_member(pod: Json, launched: Callable[[Json], str | None]) -> _Member:
    metadata = pod["metadata"]
    namespace = str(metadata.get("namespace") or "default")
    name = f"{namespace}/{metadata['name']}"
    return _Member(
        name, launched(pod), True, namespace, _texts(dig(metadata, "labels")), _terms(_spec(pod), namespace), _spec(pod).get("nodeName")
    )


def _template(vm: Json) -> Json:
    return dig(vm, "spec", "template", "spec")


def _spec(obj: Json) -> Json:
    return dig(obj, "spec")


def _texts(labels: Json) -> dict[str, str]:
    return {str(key): str(value) for key, value in labels.items()}


def _has_terms(spec: Json) -> bool:
    return "affinity" in spec and bool(dig(spec, "affinity", "podAntiAffinity").get(_REQUIRED))


def with_rules(vm: Vm, rule: Rule | None, nodes: Iterable[Json]) -> Vm:
    """The VM of a pool of these Nodes with what applies to it."""
    if rule is None:
        return vm
    reasons = rule.reasons
    if rule.labels:
        names = [dig(node, "metadata", "labels").get(HOSTNAME) for node in nodes]
        if None in names or len(set(names)) < len(names):
            reasons = (*reasons, f"required podAntiAffinity: the pool's Nodes do not each have a label {HOSTNAME} of their own")
    if not reasons:
        return replace(vm, apart=rule.labels)
    return replace(vm, apart=rule.labels, not_agile=(*vm.not_agile, *reasons), tried_anyway=not vm.not_agile)


def _terms(spec: Json, namespace: str) -> frozenset[Term]:
    if not _has_terms(spec):
        return frozenset()
    required = dig(spec, "affinity", "podAntiAffinity")[_REQUIRED]
    # Without a selector a term selects nothing, which is no rule.
    return frozenset(_term(term, namespace) for term in required if isinstance(term, dict) and isinstance(term.get("labelSelector"), dict))


def _term(term: Json, namespace: str) -> Term:
    selector = dig(term, "labelSelector")
    needs: list[Need] = [(str(key), "In", (str(value),)) for key, value in dig(selector, "matchLabels").items()]
    for need in selector.get("matchExpressions") or ():
        needs.append((str(need.get("key")), str(need.get("operator")), tuple(sorted(map(str, need.get("values") or ())))))
    named = frozenset(map(str, term.get("namespaces") or ()))
    namespaces = None if term.get("namespaceSelector") is not None else named or frozenset({namespace})
    odd = ""
    if term.get("topologyKey") != HOSTNAME:
        odd = f"it spreads over {term.get('topologyKey')}; only {HOSTNAME} is planned for"
    elif namespaces != frozenset({namespace}):
        odd = "it looks into other namespaces, which is not planned for"
    elif term.get("matchLabelKeys") or term.get("mismatchLabelKeys"):
        odd = "matchLabelKeys are not planned for"
    elif any(operator not in {"In", "Exists"} for _, operator, _ in needs):
        odd = "its selector leaves labels out, which is not planned for"
    return Term(namespaces, tuple(sorted(set(needs))), odd)


def _met(need: Need, labels: Mapping[str, str]) -> bool:
    key, operator, values = need
    value = labels.get(key)
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return True


def _text(need: Need) -> str:
    key, operator, values = need
    if operator == "Exists":
        return key
    return f"{key}={values[0]}" if len(values) == 1 else f"{key} {operator.lower()} ({', '.join(values)})"


def _described(member: _Member) -> str:
    return f"{'pod' if member.is_pod else 'VirtualMachine'} {member.name}"

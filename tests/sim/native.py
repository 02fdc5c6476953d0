"""Rewrites modules of the core for mypyc, which compiles plain classes well and dataclasses badly. What decides is left as it is.

Three things change, each by a rule that looks at no name of the protocol:

* a frozen dataclass becomes a class with the same fields, `__init__`, `__eq__`, `__hash__`, `__repr__` and `__match_args__`, written out;
* `replace(x, a=1)` becomes `x.with__a(1)`: a new object with all other fields, through the same `__init__` and the same checks;
* `object.__setattr__(self, "a", 1)` in a frozen class becomes `self.a = 1`.

And two results are kept, as `fast` does for the plain core: a decoded block, and a configuration's hash.
`tests/sim/test_compiled.py` compares runs of the rewritten modules with the core's own.
"""

import ast
from collections.abc import Iterator, Mapping

_KEPT_FUNCTION = ("slot", "decode")
_KEPT_PROPERTY = ("PoolConfig", "hash")


def rewrite(sources: Mapping[str, str]) -> dict[str, str]:
    """The modules of one package, by name, as they are to be compiled together."""
    trees = {name: ast.parse(source) for name, source in sources.items()}
    sites = _Sites()
    for tree in trees.values():
        sites.visit(tree)
    for name, tree in trees.items():
        tree.body = [new for node in tree.body for new in _statement(name, node, sites.changed)]
        tree.body[1:1] = ast.parse("import functools as _functools\nimport typing as _typing").body
    return {name: ast.unparse(ast.fix_missing_locations(tree)) + "\n" for name, tree in trees.items()}


class _Sites(ast.NodeTransformer):
    """Calls of `replace`, and fields that a frozen class sets itself. `changed` collects which fields are replaced together."""

    def __init__(self) -> None:
        self.changed: set[tuple[str, ...]] = set()

    def visit_Call(self, call: ast.Call) -> ast.AST:
        self.generic_visit(call)
        if ast.unparse(call.func) != "replace":
            return call
        names = tuple(k.arg for k in call.keywords if k.arg is not None)
        if len(names) < len(call.keywords):
            raise ValueError(f"cannot be compiled: {ast.unparse(call)}")
        self.changed.add(names)
        return ast.Call(ast.Attribute(call.args[0], _with(names), ast.Load()), [k.value for k in call.keywords], [])

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "object.__setattr__":
            owner, name, value = node.value.args
            assert isinstance(name, ast.Constant)
            return ast.Assign([ast.Attribute(owner, str(name.value), ast.Store())], value, lineno=node.lineno)
        return node


def _with(names: tuple[str, ...]) -> str:
    return f"with__{'__'.join(names)}"


def _statement(module: str, node: ast.stmt, changed: set[tuple[str, ...]]) -> Iterator[ast.stmt]:
    if isinstance(node, ast.ClassDef) and any("dataclass(" in ast.unparse(d) for d in node.decorator_list):
        yield from _class(node, changed)
        return
    if isinstance(node, ast.FunctionDef) and (module, node.name) == _KEPT_FUNCTION:
        node.decorator_list = [ast.parse("_functools.lru_cache(4096)", mode="eval").body]
    yield node


def _class(node: ast.ClassDef, changed: set[tuple[str, ...]]) -> Iterator[ast.stmt]:
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    types = {ast.unparse(one.target): ast.unparse(one.annotation) for one in fields}
    for name, kind in list(types.items()):
        if kind.split(".")[0] in types:
            # The field would hide the module that its type is from.
            types[name] = f"_{node.name}_{name}"
            yield from ast.parse(f"{types[name]} = {kind}").body
    literals = ", ".join(f"_typing.Literal[{name!r}]" for name in types) or "()"
    matched = f"__match_args__: _typing.ClassVar[tuple[{literals}]] = ({''.join(f'{name!r}, ' for name in types)})"
    lines = [matched, *(f"{name}: {kind}" for name, kind in types.items())]
    starts: list[str] = []
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and (node.name, one.name) == _KEPT_PROPERTY:
            kind = ast.unparse(one.returns or ast.Constant(None))
            lines += [f"_kept: {kind} | None", "@property", f"def {one.name}(self) -> {kind}:"]
            lines += [" if self._kept is None:", "  self._kept = self._kept_anew()", " return self._kept"]
            starts.append("self._kept = None")
            one.name, one.decorator_list = "_kept_anew", []
        if isinstance(one, ast.FunctionDef) and one.name == "__post_init__":
            starts.append("self.__post_init__()")
    lines += _made(fields, types, starts) + _compared(node.name, types)
    lines += [line for names in sorted(changed) if set(names) <= set(types) for line in _replaced(node.name, types, names)]
    rest = [one for one in node.body if not isinstance(one, ast.AnnAssign)]
    words = [one for one in rest[:1] if isinstance(one, ast.Expr)]
    node.body = [*words, *ast.parse("\n".join(lines)).body, *rest[len(words) :]]
    node.decorator_list = []
    yield node


def _made(fields: list[ast.AnnAssign], types: Mapping[str, str], starts: list[str]) -> list[str]:
    takes, sets = ["self"], []
    for field in fields:
        name, default = ast.unparse(field.target), field.value
        if default is None:
            takes.append(f"{name}: {types[name]}")
            sets.append(f"self.{name} = {name}")
        elif isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
            (new,) = [ast.unparse(k.value) for k in default.keywords if k.arg == "default_factory"]
            takes.append(f"{name}: {types[name]} | None = None")
            sets.append(f"self.{name} = {new}() if {name} is None else {name}")
        else:
            takes.append(f"{name}: {types[name]} = {ast.unparse(default)}")
            sets.append(f"self.{name} = {name}")
    return [f"def __init__({', '.join(takes)}) -> None:", *(f" {line}" for line in [*sets, *starts] or ["pass"])]


def _compared(kind: str, types: Mapping[str, str]) -> list[str]:
    equal = " and ".join(f"self.{name} == other.{name}" for name in types) or "True"
    shown = " + ', ' + ".join(f"'{name}=' + repr(self.{name})" for name in types) or "''"
    return [
        "def __eq__(self, other: object) -> bool:",
        f" return self is other or (isinstance(other, {kind}) and {equal})",
        "def __hash__(self) -> int:",
        f" return hash(({''.join(f'self.{name}, ' for name in types)}))",
        "def __repr__(self) -> str:",
        f" return '{kind}(' + {shown} + ')'",
    ]


def _replaced(kind: str, types: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    takes = ", ".join(f"{name}: {types[name]}" for name in names)
    values = ", ".join(name if name in names else f"self.{name}" for name in types)
    return [f"def {_with(names)}(self, {takes}) -> '{kind}':", f" return {kind}({values})"]

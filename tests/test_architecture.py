"""The house stands as the head of `gateway/__init__.py` draws it: floors, and one door to each foreign package."""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent

# Rooms, from the bottom to the top: a room imports from itself and from those below.
FLOORS = [
    [
        *("gateway", "gateway.bounds", "gateway.endpoints", "gateway.entries", "gateway.errors"),
        *("gateway.sse", "gateway.sse.*"),
    ],
    ["gateway.config", "gateway.config.*"],
    ["gateway.log", "gateway.log.*", "gateway.observe", "gateway.observe.*"],
    ["gateway.shared", "gateway.shared.*"],
    ["gateway.upstream", "gateway.upstream.*"],
    ["gateway.admission", "gateway.admission.*"],
    ["gateway.messages", "gateway.messages.*", "gateway.responses", "gateway.responses.*"],
    ["gateway.streams", "gateway.streams.*"],
    ["gateway.handover", "gateway.handover.*"],
    ["gateway.handlers", "gateway.handlers.*"],
    [
        *("gateway.app", "gateway.notify", "gateway.serve"),
        *("gateway.door", "gateway.port", "gateway.shared_port", "gateway.takeover"),
        *("gateway.workers", "gateway.workers.*", "gateway.demo", "gateway.demo.*"),
    ],
    ["gateway.__main__", "gateway.cli", "gateway.commands", "gateway.commands.*"],
]

# Those that decide or translate: no foreign package but msgspec.
POLICY = [
    "gateway.admission.addresses",
    "gateway.admission.admit",
    "gateway.admission.admit_v1",
    "gateway.admission.auth",
    "gateway.admission.body_room",
    "gateway.admission.budgets",
    "gateway.admission.descriptors",
    "gateway.admission.fields",
    "gateway.admission.limit_commands",
    "gateway.admission.limit_replies",
    "gateway.admission.limits",
    "gateway.admission.owed",
    "gateway.admission.periods",
    "gateway.admission.refusals",
    "gateway.admission.spending",
    "gateway.admission.surrogates",
    "gateway.admission.tokens",
    "gateway.admission.translating",
    "gateway.config.*",
    "gateway.handlers.negotiation",
    "gateway.handlers.origins",
    "gateway.log.*",
    "gateway.messages.*",
    "gateway.observe.report",
    "gateway.observe.formatters",
    "gateway.observe.lag",
    "gateway.observe.messages",
    "gateway.observe.records",
    "gateway.observe.spans",
    "gateway.observe.writer",
    "gateway.responses.*",
    "gateway.streams.*",
    "gateway.upstream.catalogue",
    "gateway.upstream.codings",
    "gateway.upstream.dialects.*",
    "gateway.upstream.redaction",
    "gateway.upstream.routing",
    "gateway.upstream.shapes",
    "gateway.upstream.tls",
    "gateway.upstream.unreachable",
]

# Of the standard library, what brings in a loop, a clock, an environment, chance or a wire.
NOT_PURE = {
    "asyncio",
    "datetime",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}

DOORS = {  # the one module or room that imports a package; the house's own, msgspec and `aiohttp.web`, have none
    "aiohttp": "gateway.upstream.client.*",  # its client; see SERVER for the rest of it
    "aiohttp_sse": "gateway.handlers.sinks",
    "dotenv": "gateway.commands.configuration",
    "gunicorn": "gateway.workers.*",
    "limits": "gateway.admission.memory_limiter",
    "opentelemetry": "gateway.observe.traces",
    "prometheus_client": "gateway.observe.metrics.*",
    "hiredis": "gateway.shared.connection",
    "redis": "gateway.shared.connection",
    "uvloop": "gateway.serve",
}
SERVER = {
    "aiohttp.web",
    "aiohttp.HttpVersion11",
    "aiohttp.abc",
    "aiohttp.http_exceptions",
}


def module_at(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


PATHS = {module_at(path): path for path in sorted(ROOT.rglob("*.py"))}


def floors_of(module: str) -> list[int]:
    return [number for number, floor in enumerate(FLOORS) if any(fnmatchcase(module, name) for name in floor)]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """The full names that it imports, wherever in it: a module's name where the name is one, else `module.name`."""
    is_package = PATHS[module].name == "__init__.py"
    return set(imported_by(tree_of(module), package=module if is_package else module.rpartition(".")[0]))


def imported_by(tree: ast.AST, *, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from [f"{base}.{alias.name}" for alias in node.names]


def own_imports(module: str) -> set[str]:
    """The modules of ours among them."""
    names = {name for name in imports(module) if name.partition(".")[0] == "gateway"}
    return {name if name in PATHS else name.rpartition(".")[0] for name in names}


def foreign_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.partition(".")[0] not in {"gateway", *sys.stdlib_module_names}}


def test_how_imports_are_read() -> None:
    source = """
import a.b, c as d
from e.f import g
from . import h
from .i import j
from ..k import l
if TYPE_CHECKING:
    from m import n
def late():
    import o
"""
    found = set(imported_by(ast.parse(source), package="gateway.x"))
    assert found == {"a.b", "c", "e.f.g", "gateway.x.h", "gateway.x.i.j", "gateway.k.l", "m.n", "o"}


def test_every_module_has_one_floor() -> None:
    """A new one is given its place in FLOORS, and in the head of `gateway/__init__.py`, by whoever adds it."""
    assert [module for module in PATHS if len(floors_of(module)) != 1] == []


def test_every_place_is_taken() -> None:
    """No empty seats."""
    names = [*POLICY, *[name for floor in FLOORS for name in floor]]
    assert [name for name in names if not any(fnmatchcase(module, name) for module in PATHS)] == []


def test_imports_go_only_downwards() -> None:
    """From the same floor, too."""
    edges = [(module, name) for module in PATHS for name in own_imports(module)]
    assert [(module, name) for module, name in edges if floors_of(name) > floors_of(module)] == []


def test_imports_go_round_in_no_circle() -> None:
    order = TopologicalSorter({module: own_imports(module) for module in PATHS})
    assert len(list(order.static_order())) == len(PATHS)


@pytest.mark.parametrize("module", [module for module in PATHS if floors_of(module) == [0]])
def test_the_core_is_pure(module: str) -> None:
    """The standard library, and structs; no loop, no clock, no environment."""
    assert foreign_imports(module) <= {"msgspec"}
    assert {name.partition(".")[0] for name in imports(module)} & NOT_PURE == set()


def room_of(module: str) -> str:
    """`gateway.upstream.dialects.openai` is in the room `upstream`; a module beside the rooms is one by itself."""
    return module.split(".")[1] if "." in module else module


def test_no_two_rooms_need_each_other() -> None:
    arrows: dict[str, set[str]] = {room_of(module): set() for module in PATHS}
    for module in PATHS:
        arrows[room_of(module)] |= {room_of(name) for name in own_imports(module)} - {room_of(module)}
    assert len(list(TopologicalSorter(arrows).static_order())) == len(arrows)


@pytest.mark.parametrize("module", [module for module in PATHS if any(fnmatchcase(module, name) for name in POLICY)])
def test_policy_knows_no_foreign_package_but_msgspec(module: str) -> None:
    assert {name.partition(".")[0] for name in foreign_imports(module)} <= {"msgspec"}


def test_every_foreign_package_has_one_door() -> None:
    """A package that has none is one that nobody has decided on."""
    used = [(module, name) for module in PATHS for name in foreign_imports(module)]
    beside = [(module, name) for module, name in used if not is_ours(name)]
    assert [(module, name) for module, name in beside if not fnmatchcase(module, door_of(name))] == []
    assert {name.partition(".")[0] for _, name in beside} == set(DOORS)


def door_of(name: str) -> str:
    return DOORS.get(name.partition(".")[0], "")


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == "msgspec" or name in SERVER or name.rpartition(".")[0] in SERVER


def test_every_module_says_what_it_is() -> None:
    assert [module for module in PATHS if not ast.get_docstring(tree_of(module))] == []


def patched_constants(tree: ast.AST) -> list[str]:
    """The names in capitals that it patches, each with its module where that is told."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    patches = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in ("setattr", "patch", "object")]
    names = [arg.value for call in patches for arg in call.args if isinstance(arg, ast.Constant)]
    return [name for name in names if isinstance(name, str) and re.fullmatch(r"([\w.]+\.)?_?[A-Z][A-Z_]+", name)]


def test_how_patched_constants_are_found() -> None:
    source = (
        'monkeypatch.setattr(m, "_MOST", 1); patch("a.b._SECONDS", 2); patch.object(c, "PIECE", 3); setattr(d, "e", 4)'
    )
    assert sorted(patched_constants(ast.parse(source))) == ["PIECE", "_MOST", "a.b._SECONDS"]


def test_no_test_patches_a_time_or_a_size() -> None:
    """One that a test has to change is a field of `Bounds`, or a parameter of its own."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT.parent / "tests").rglob("*.py")]
    assert [name for tree in trees for name in patched_constants(tree)] == []

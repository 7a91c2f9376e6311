"""The rules of who may import what, read from the sources themselves."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKED = ("sequencer", "storage_units", "tools")

CORE_FREE_OF = {
    "asyncio_dgram",
    "fcntl",
    "logging",
    "os",
    "queue",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}
"""Modules through which the outside world comes in; `random` is looked at apart."""

SHELLS = (
    "corfu/runtime/",
    "corfu/client/connecting.py",
    "corfu/embedded/opening.py",
    "corfu/sync",
    "sequencer/server.py",
    "sequencer/__main__.py",
    "storage_units/server.py",
    "storage_units/__main__.py",
    "tools/",
)
"""The only files that may touch the outside world."""


class Module:
    """One source file: its dotted name as installed, and what it imports when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path.relative_to(ROOT).as_posix()
        dotted = self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.name = dotted if dotted.split(".")[0] in ("corfu", "tests") else f"corfu.{dotted}"
        self.package = self.name if path.name == "__init__.py" else self.name.rpartition(".")[0]
        self.tree = ast.parse(path.read_text(), filename=self.path)

    def imports(self, *, at_load_only: bool = False) -> Iterator[str]:
        """Yield the dotted name of everything imported (`from a import b` gives a.b)."""
        nodes = _loaded(self.tree.body) if at_load_only else ast.walk(self.tree)
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = self.package.split(".")
                    kept = parents[: len(parents) - node.level + 1]
                    base = ".".join([*kept, *([base] if base else [])])
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _loaded(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is loaded, `if TYPE_CHECKING` left out."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _loaded(getattr(node, inner, []))


def _modules() -> list[Module]:
    found = [
        path
        for folder in ("corfu", *LINKED, "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / "corfu" / linked) for linked in LINKED)
    ]
    return [Module(path) for path in found]


MODULES = _modules()
NAMES = {module.name for module in MODULES}


def _part(dotted: str) -> str | None:
    """Return which part of the project a dotted name belongs to; None if it is none of ours."""
    top, _, rest = dotted.partition(".")
    second = rest.split(".")[0]
    if top == "corfu":
        return second if second in LINKED else "corfu"
    return top if top in (*LINKED, "tests") else None


def _offences(allowed: dict[str, set[str]]) -> list[str]:
    return [
        f"{module.path} imports {name}"
        for module in MODULES
        for name in module.imports()
        if (part := _part(name)) is not None
        and part != (own := _part(module.name))
        and part not in allowed.get(own or "", set())
    ]


def test_imports_across_parts_follow_the_rules() -> None:
    """corfu needs nobody, the servers only corfu, and nobody the tools."""
    allowed = {
        "corfu": set[str](),
        "sequencer": {"corfu"},
        "storage_units": {"corfu"},
        "tools": {"corfu", "sequencer", "storage_units"},
        "tests": {"corfu", "sequencer", "storage_units", "tools"},
    }
    assert _offences(allowed) == []


def test_imports_by_the_folder_names_are_absent() -> None:
    """`import sequencer` would work in a checkout and fail where the package is installed."""
    bare = [
        f"{module.path} imports {name}"
        for module in MODULES
        for name in module.imports()
        if name.split(".")[0] in LINKED
    ]
    assert bare == []


def test_imports_at_load_time_make_no_cycle() -> None:
    graph = {
        module.name: {
            target
            for name in module.imports(at_load_only=True)
            for target in (name, name.rpartition(".")[0])
            if target in NAMES and target != module.name
        }
        for module in MODULES
    }
    # `from a.b import c` names both a.b.c and a.b; the package itself counts only if c is in it.
    for name, targets in graph.items():
        graph[name] = {
            target
            for target in targets
            if not any(other != target and other.startswith(f"{target}.") for other in targets)
        }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_asyncio_dgram_is_imported_by_one_file() -> None:
    users = {
        module.path
        for module in MODULES
        if any(name.split(".")[0] == "asyncio_dgram" for name in module.imports())
    }
    assert users <= {"corfu/runtime/udp.py"}


@pytest.mark.parametrize(
    "module",
    [m for m in MODULES if not m.path.startswith((*SHELLS, "tests/"))],
    ids=lambda module: module.path,
)
def test_logic_imports_nothing_of_the_outside_world(module: Module) -> None:
    outside = {name.split(".")[0] for name in module.imports()} & CORE_FREE_OF
    assert outside == set(), f"{module.path} is logic: time, files and sockets are passed in"
    # `random.Random` as a type is fine, the module's shared generator is not.
    drawn = {
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
        and node.attr != "Random"
    }
    assert drawn == set()
    made = {
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "random.Random"
    }
    assert made == set(), f"{module.path} is logic: its generator is passed in"


def test_every_package_is_marked_as_typed() -> None:
    """Without the file the types of an installed package are not seen."""
    packages = {m.path for m in MODULES if m.path.endswith("__init__.py")}
    untyped = {
        path
        for path in packages
        if not path.startswith("tests/") and not (ROOT / path).with_name("py.typed").exists()
    }
    assert untyped == set()


def test_console_scripts_point_at_functions() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"corfu", "corfu-sequencer", "corfu-storage"}
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), target


def test_wheel_holds_one_top_level_package(tmp_path: Path) -> None:
    """Generic names such as `tools` must not land in site-packages."""
    subprocess.run(  # the builder alone, without an isolated environment: about a second
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--disable-pip-version-check"),
            *("--wheel-dir", str(tmp_path / "wheels"), str(_source_copy(tmp_path))),
        ],
        check=True,
        timeout=100,
    )
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"corfu"}
    files = {
        module.path if module.path.startswith("corfu/") else f"corfu/{module.path}"
        for module in MODULES
        if not module.path.startswith("tests/")
    }
    assert files - set(names) == set()
    assert {name.replace("__init__.py", "py.typed") for name in files} - files <= set(names)


def _source_copy(tmp_path: Path) -> Path:
    """Copy what a build needs, so that it leaves nothing in the checkout."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for folder in ("corfu", *LINKED):
        shutil.copytree(
            ROOT / folder,
            copy / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return copy

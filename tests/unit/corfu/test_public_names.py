"""The public package: its names are there, and importing it costs next to nothing."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import corfu

SOURCE = Path(corfu.__file__)


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a new interpreter has loaded after `statement`."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(result.stdout.split())


def test_import_of_corfu_loads_no_client_and_nothing_of_others() -> None:
    loaded = loaded_by("import corfu")
    heavy = {"asyncio", "asyncio_dgram", "cbor2", "click", "rich", "uvloop", "xxhash"}
    assert loaded & heavy == set()
    assert "corfu.log" not in loaded


def test_import_of_a_server_loads_no_client_and_no_tools() -> None:
    for server in ("storage_units", "sequencer"):
        loaded = loaded_by(f"import corfu.{server}.server")
        assert loaded & {"click", "rich", "corfu.log", "corfu.embedded"} == set()
        assert not any(name.startswith(("corfu.client", "corfu.tools")) for name in loaded)


@pytest.mark.parametrize("name", corfu.__all__)
def test_public_name_is_what_its_module_says(name: str) -> None:
    assert getattr(corfu, name) is getattr(importlib.import_module(corfu._HOMES[name]), name)
    assert name in dir(corfu)


def test_type_checkers_see_exactly_the_names_that_are_there() -> None:
    tree = ast.parse(SOURCE.read_text())
    seen = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == corfu._HOMES
    assert sorted(seen) == sorted(corfu.__all__)


def test_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = corfu.nothing  # type: ignore[attr-defined]

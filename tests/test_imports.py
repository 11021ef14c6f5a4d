"""The house's order: each file imports only from the rows above its own."""

import ast
from pathlib import Path

import pytest

import flask_mongo_session

PACKAGE = "flask_mongo_session"
ROOT = Path(flask_mongo_session.__file__).parent

ROWS = {  # top to bottom, each with what it may import inside of a function only ("lazily")
    "exceptions": (),
    "signals": (),
    "tokens": (),
    "changes": (),
    "codec": (),
    "batches": (),
    "schema": (),
    "sweeper": (),
    "supervisor": (),
    "mongod": (),
    "embedded": (),
    "patience": (),
    "clock": (),
    "breaker": (),
    "operation": (),
    "connection": ("embedded",),
    "model": (),
    "records": (),
    "removal": (),
    "lease": (),
    "indexes": (),
    "commands": (),
    "ending": (),
    "store": ("encryption",),
    "owners": (),
    "privacy": (),
    "figures": (),
    "identity": (),
    "mapping": (),
    "session": (),
    "config": (),
    "policy": (),
    "framing": (),
    "saving": (),
    "device": (),
    "failure": (),
    "interface": (),
    "freshness": (),
    "doctor": (),
    "extension": ("cli", "doctor", "embedded", "encryption"),
    "cli": (),
    "encryption": (),
    "testing": (),
}
NARROWER = {  # files that want less than all of the rows above
    "signals": set(),
    "tokens": set(),
    "changes": set(),
    "codec": {"exceptions"},
    "sweeper": set(),
    "supervisor": set(),
    "mongod": {"exceptions"},
    "embedded": {"exceptions", "mongod", "supervisor"},
    "batches": {"codec"},
    "identity": {"records", "tokens"},
    "mapping": {"changes", "codec", "exceptions", "identity", "records", "schema", "tokens"},  # no I/O of its own
    "session": {"changes", "codec", "exceptions", "identity", "mapping", "records", "tokens"},  # same
    "config": {"exceptions"},
    "freshness": set(),
    "cli": set(),
    "encryption": {"codec", "exceptions"},
    "testing": {"embedded", "exceptions", "mongod"},
}
OPTIONAL = {"cli", "encryption", "testing", "contrib"}  # nothing imports these at the top of a file
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imports(path):
    """Every import from inside of the package: (file or folder, is it at the top of the file?); "" is its root.

    What only type checkers import is left out: it is no part of the program.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    lazy = inner_nodes(tree, lambda node: isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    unreal = inner_nodes(
        tree, lambda node: isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    )
    for node in set(ast.walk(tree)) - unreal:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            if top == PACKAGE:
                yield rest[0] if rest and inside(rest[0]) else "", node not in lazy


def inner_nodes(tree, is_outer):
    return {inner for outer in ast.walk(tree) if is_outer(outer) for inner in ast.walk(outer)}


def inside(name):
    return (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()


def test_every_file_has_its_row():
    """A new file of the package gets a row in the table, and with it a place in the order."""
    assert {Path(name).parts[0].removesuffix(".py") for name in FILES} - {"__init__", "contrib"} <= set(ROWS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_from_rows_above(name):
    """A file imports from the rows above it; what is optional, inside of a function; contrib, the public API."""
    room = Path(name).parts[0].removesuffix(".py")
    rows = list(ROWS)
    for imported, at_the_top in imports(ROOT / name):
        if room == "contrib":
            assert imported in ("", "contrib"), f"{name} imports {imported}: contrib lives on the public API"
        elif room == "__init__":
            assert imported not in OPTIONAL, f"{name} imports the optional {imported}"
        elif imported in ROWS[room]:
            assert not at_the_top, f"{name} imports {imported} at the top; the table says: lazily"
        else:
            above = NARROWER.get(room, set(rows[: rows.index(room)]) - OPTIONAL)
            assert imported in above, f"{name} imports {imported or 'the package itself'}; it may: {sorted(above)}"

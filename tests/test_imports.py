"""The house's order: a wing imports only from the wings below it, and inside a wing files import one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flask_mongo_session

PACKAGE = "flask_mongo_session"
ROOT = Path(flask_mongo_session.__file__).parent

#: From the ground up: each wing, or file beside the wings, with what it may import. In angle brackets: inside a
#: function only.
WINGS = {
    "exceptions": "",
    "signals": "",
    "process": "",
    "config": "exceptions",
    "embedded": "exceptions",
    "mongo": "exceptions process <embedded>",
    "encryption": "exceptions mongo",
    "document": "exceptions mongo",
    "storage": "exceptions signals mongo document",
    "session": "exceptions signals mongo document storage",
    "cleanup": "exceptions process mongo document",
    "store": "exceptions signals process mongo document storage cleanup",
    "web": "exceptions signals process config mongo document storage session",
    "management": "exceptions config mongo document storage store",
    "database": "exceptions config mongo <embedded>",
    "extension": "exceptions config database document storage store web management <encryption> <contrib>",
    "testing": "<exceptions> <embedded>",
}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imports(path):
    """Every import from inside the package: (dotted name below it, is it at the top of the file?).

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
            top, _, rest = name.partition(".")
            if top == PACKAGE:
                yield module_of(rest), node not in lazy


def inner_nodes(tree, is_outer):
    return {inner for outer in ast.walk(tree) if is_outer(outer) for inner in ast.walk(outer)}


def module_of(name):
    """The file or folder that defines *name*; "" is the package itself."""
    parts = name.split(".")
    while parts and not (ROOT.joinpath(*parts).is_dir() or ROOT.joinpath(*parts).with_suffix(".py").is_file()):
        parts.pop()
    return ".".join(parts)


def wing_of(name):
    return Path(name).parts[0].removesuffix(".py")


def test_every_wing_has_its_row():
    """A new wing gets a row in the table, and with it a place in the order."""
    assert {wing_of(name) for name in FILES} - {"__init__", "contrib"} == set(WINGS)


def test_the_table_runs_one_way():
    """Every row allows only rows above it."""
    rows = list(WINGS)
    for position, (wing, allowed) in enumerate(WINGS.items()):
        # Parts of contrib, which lives above all wings, are loaded where the configuration asks for them.
        assert {name.strip("<>") for name in allowed.split()} - {"contrib"} <= set(rows[:position]), wing


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_what_its_wing_may(name):
    """A file imports from its own wing and from those that the table allows; contrib uses the public API."""
    wing = wing_of(name)
    allowed = WINGS.get(wing, "").split()
    for imported, at_the_top in imports(ROOT / name):
        other = imported.partition(".")[0]
        if wing == "__init__":
            assert other not in ("testing", "encryption", "contrib", "embedded"), f"{name} imports {imported}"
        elif wing == "contrib":
            assert other in ("", "contrib", "document", "management", "web"), (
                f"{name} imports {imported}: contrib lives on the public API"
            )
        elif other != wing:
            lazily = f"<{other}>" in allowed and not at_the_top
            assert other in allowed or lazily, f"{name} imports {imported}; its wing may: {allowed}"


@pytest.mark.parametrize("wing", sorted({wing_of(name) for name in FILES if "/" in name}))
def test_files_of_a_wing_import_one_way(wing):
    """No two files of a wing import each other, not even through others."""
    graph = {}
    for name in FILES:
        if wing_of(name) == wing:
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            graph[module] = {other for other, _ in imports(ROOT / name) if other.startswith(f"{wing}.")} - {module}
    TopologicalSorter(graph).prepare()  # raises CycleError

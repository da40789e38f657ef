"""The structure of the code: short parameter lists, no private reads, one meaning a name, plain words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import lxcompress
from lxcompress import filenames

PACKAGE = Path(lxcompress.__file__).parent
TREES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
MOST_PARAMETERS = 6
LONG_BY_CONTRACT: dict[str, str] = {}
"""Functions with more parameters than MOST_PARAMETERS, and why; the commands' own are not listed."""

HOME_MADE = re.compile(
    r"\b(each of them|by itself|gone on from|gone on with|go on from|beside it|beside each other|held against"
    r"|of one's own|none such|are as they are|as it is by itself|made anew|this place|a place|its place|the place)\b"
)
"""Words of this project that an engineer must read twice; redesigned texts use the terms of docs/glossary.md."""


def room(name: str) -> str:
    return name.split("/")[0]


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    named = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_function_has_more_than_six_parameters() -> None:
    long = {
        f"{name}:{function.name}": len(parameters(function))
        for name, tree in TREES.items()
        for function in functions(tree)
        if len(parameters(function)) > MOST_PARAMETERS
        if not (room(name) == "cli" and function.name.endswith("_cli"))
    }
    assert set(long) == set(LONG_BY_CONTRACT), long


def test_no_module_reads_a_private_name_of_another() -> None:
    reads = {name: private_reads(tree) for name, tree in TREES.items()}
    assert not {name: found for name, found in reads.items() if found}


def private_reads(tree: ast.AST) -> list[str]:
    """Return the private names of other modules of the package that `tree` imports or reads."""
    nodes = list(ast.walk(tree))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    aliases = [alias for node in imports if (node.module or "").startswith("lxcompress") for alias in node.names]
    imported = {alias.asname or alias.name for alias in aliases}
    return [alias.name for alias in aliases if private(alias.name)] + [
        f"{node.value.id}.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in imported and private(node.attr)
    ]


def private_members(tree: ast.AST) -> set[str]:
    """Return the private methods and attributes that the classes in `tree` have."""
    bodies = [node for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef) for node in owner.body]
    methods = {node.name for node in bodies if isinstance(node, ast.FunctionDef)}
    fields = {
        node.target.id for node in bodies if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    stored = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    return {name for name in methods | fields | stored if private(name)}


def foreign_members(tree: ast.AST, members: set[str]) -> list[str]:
    """Return the reads in `tree` of private `members` of the package's classes that no class in `tree` has."""
    own = private_members(tree)
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in members and node.attr not in own
    ]


def test_no_module_reads_a_private_member_of_a_class_of_another() -> None:
    members = {member for tree in TREES.values() for member in private_members(tree)}
    reads = {name: foreign_members(tree, members) for name, tree in TREES.items()}
    assert not {name: found for name, found in reads.items() if found}
    assert foreign_members(ast.parse("session._library.close()\npart._asdict()"), members) == ["session._library"]


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(name)
    several = {name: sorted(files) for name, files in homes.items() if len(files) > 1}
    assert not several


def test_words_are_plain() -> None:
    found = {
        name: sorted({match.group() for match in HOME_MADE.finditer((PACKAGE / name).read_text(encoding="utf-8"))})
        for name in TREES
    }
    assert not {name: words for name, words in found.items() if words}


FILE_NAMES = tuple(value for name, value in vars(filenames).items() if name.isupper())
FILE_NAME_HOMES = {"filenames.py", "rundir.py"}


def test_a_file_name_of_a_run_has_one_home() -> None:
    """A path that ends in such a name uses the constant of lxcompress.filenames; sentences for the user may name it."""
    assert {"artifact.json", "mask.safetensors", "ticket.json", "recipe.yaml", "results.csv"} <= set(FILE_NAMES)
    ends = re.compile(rf"(^|[/*])({'|'.join(map(re.escape, FILE_NAMES))})$")
    found = {
        f"{name}: {text}"
        for name, tree in TREES.items()
        if name not in FILE_NAME_HOMES
        for text in texts(tree)
        if ends.search(text)
    }
    assert not found, "take them from lxcompress.filenames"


def texts(tree: ast.AST) -> list[str]:
    """Return the texts in the code of a module, without its docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]

"""Change one operator, constant or condition of a module at a time, and check that a test of the module fails.

`python -m tests.mutants [MODULE...]` prints one row a module and each change that no test noticed. The tests are
collected once. Each change runs in a fork of that process, which runs the tests that call the changed function.
All tests of the module run if the change is in a constant, or in a function that a fixture calls.
Why this is no library: cosmic-ray starts Python and torch for each change, and most changes of mutmut are of texts.
"""

from __future__ import annotations

import ast
import copy
import functools
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

import lxcompress
from tests.survivors import SURVIVORS

PACKAGE = Path(lxcompress.__file__).parent
JOBS = int(os.environ.get("JOBS", "2"))
"""How many changes are tried at a time."""
CALLED = "__called__"
"""The name, in the module under test, of the set of the functions that were called."""
LEAST_S, SLOWER = 10.0, 10.0
"""The time limit of one change: seconds, and a factor of what its tests take. A change that never ends is noticed."""
TESTS: dict[str, tuple[str, ...]] = {
    "analysis/alternatives": ("tests/analysis/test_comparison.py", "tests/analysis/test_pick.py"),
    "analysis/comparison": ("tests/analysis/test_comparison.py",),
    "analysis/constraints": ("tests/analysis/test_constraints.py",),
    "analysis/equal_accuracy": (
        "tests/analysis/test_equal_accuracy.py",
        "tests/analysis/test_equal_accuracy_limits.py",
    ),
    "analysis/equal_accuracy_words": (
        "tests/analysis/test_equal_accuracy.py",
        "tests/analysis/test_equal_accuracy_limits.py",
    ),
    "analysis/fronts": ("tests/analysis/test_pick.py",),
    "analysis/pick": ("tests/analysis/test_pick.py",),
    "analysis/pick_warnings": ("tests/analysis/test_pick.py",),
    "analysis/rule": ("tests/analysis/test_pick.py",),
    "analysis/verdict": ("tests/analysis/test_pick.py", "tests/analysis/test_equal_accuracy.py"),
    "bitmask": ("tests/test_bitmask.py",),
    "data/gqa_score": ("tests/data/test_gqa_score.py",),
    "data/nlvr2_score": ("tests/data/test_nlvr2_score.py",),
    "data/vqa_score": ("tests/data/test_vqa_score.py",),
    "engine/pack": ("tests/engine/test_pack.py",),
    "measure/compare": ("tests/measure/test_compare.py",),
    "pruning/bits": ("tests/test_tickets.py",),
    "pruning/choose": ("tests/pruning/test_choose.py",),
    "pruning/controls": ("tests/pruning/test_controls.py",),
    "pruning/criteria": ("tests/pruning/test_criteria.py",),
    "pruning/granularity": ("tests/pruning/test_choose.py",),
    "pruning/mask": ("tests/pruning/test_mask.py", "tests/pruning/test_choose.py"),
    "pruning/overlap": ("tests/pruning/test_overlap.py",),
    "pruning/published": ("tests/pruning/test_published.py",),
    "pruning/schedule": ("tests/pruning/test_schedule.py",),
    "pruning/scope": ("tests/pruning/test_choose.py",),
    "pruning/selection": ("tests/pruning/test_choose.py",),
    "pruning/surgery": ("tests/pruning/test_surgery.py",),
    "pruning/units": ("tests/pruning/test_units.py", "tests/pruning/test_surgery.py"),
    "stats": ("tests/test_stats_interval.py", "tests/test_stats_pareto.py", "tests/measure/test_compare.py"),
    "tickets": ("tests/test_tickets.py",),
    "training/step": ("tests/training/test_optimise.py", "tests/training/test_hooks.py"),
}
"""Module -> the test files that must notice its changes."""

OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True)
class Mutant:
    """One change of a module."""

    module: str
    function: str
    """the outermost function or method with its class; "" for a constant of the module"""
    name: str
    """what is changed into what, the key of SURVIVORS"""
    line: int
    tree: ast.Module
    """the changed module"""


class Mutator(ast.NodeTransformer):
    """Changes the `index`-th place that can be changed, and leaves the others."""

    def __init__(self, index: int) -> None:
        self.left = index
        self.changed: tuple[str, str, int] | None = None

    def change(self, node: ast.AST, new: ast.AST) -> ast.AST:
        """Return `new` if this is the place to change, and `node` if not."""
        self.left -= 1
        if self.left != -1:
            return node
        before = ast.unparse(node)
        ast.copy_location(new, node)
        ast.fix_missing_locations(new)
        line = node.target.lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 0)
        self.changed = (before, ast.unparse(new), line)
        return new

    def visit(self, node: ast.AST) -> ast.AST:
        if self.changed is not None or isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return node
        if isinstance(node, ast.AnnAssign):  # its annotation stays
            if node.value is not None:
                node.value = self.visit(node.value)
            return node
        if isinstance(node, ast.FunctionDef):
            node.body = [self.visit(statement) for statement in node.body]
            return node
        if isinstance(node, ast.ClassDef):
            node.body = [self.visit(each) if isinstance(each, ast.FunctionDef) else each for each in node.body]
            return node
        if isinstance(node, ast.keyword) and node.arg == "strict":
            return node
        self.generic_visit(node)
        return node if self.changed is not None else self.own(node)

    def own(self, node: ast.AST) -> ast.AST:
        """Return the node after the changes of the node itself, of which there may be several."""
        for new in changes(node):
            node = self.change(node, new)
            if self.changed is not None:
                break
        return node


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in place of `node`."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            if type(operator) in OPPOSITES:
                new = copy.deepcopy(node)
                new.ops[index] = OPPOSITES[type(operator)]()  # type: ignore[call-overload]
                yield new
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in OPPOSITES:
        if not (isinstance(node, ast.BinOp) and (is_text(node.left) or is_text(node.right) or is_path(node))):
            new = copy.deepcopy(node)
            new.op = OPPOSITES[type(node.op)]()  # type: ignore[assignment]
            yield new
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        more = node.value + 1 if node.value + 1 != node.value else node.value * 2  # 1e38 + 1 is 1e38
        yield ast.Constant(not node.value if isinstance(node.value, bool) else more)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SWAPPED:
        new = copy.deepcopy(node)
        new.func = ast.Name(SWAPPED[node.func.id], ast.Load())
        yield new
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        new = copy.deepcopy(node)
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield new
    elif isinstance(node, ast.comprehension):
        for index, test in enumerate(node.ifs):
            if not isinstance(test, ast.Compare | ast.UnaryOp):
                new = copy.deepcopy(node)
                new.ifs[index] = ast.UnaryOp(ast.Not(), test)
                yield new


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_path(node: ast.BinOp) -> bool:
    """Return whether `node` is folder / NAME, which no other operator accepts."""
    return isinstance(node.op, ast.Div) and isinstance(node.left, ast.Name) and node.left.id in ("folder", "run")


def make_mutants(module: str) -> list[Mutant]:
    """Return every change of the functions and constants of `module`, in the order of the file."""
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    mutants: list[Mutant] = []
    seen: Counter[str] = Counter()
    while True:
        mutator = Mutator(len(mutants))
        tree = mutator.visit(ast.parse(source))
        assert isinstance(tree, ast.Module)
        if mutator.changed is None:
            return mutants
        before, after, line = mutator.changed
        function = next((name for name, first, last in spans(tree) if first <= line <= last), "")
        name = f"{function or '(module)'}: {shorten(before)} -> {shorten(after)}"
        seen[name] += 1
        name += f" #{seen[name]}" if seen[name] > 1 else ""
        mutants.append(Mutant(module, function, name, line, tree))


def shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:28]} ... {line[-28:]}"


def spans(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Yield the name, first and last line of each outermost function and method."""
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef):
                first = min([inner.lineno, *(each.lineno for each in inner.decorator_list)])
                own = f"{node.name}.{inner.name}" if isinstance(node, ast.ClassDef) else inner.name
                yield own, first, inner.end_lineno or first


def apply(mutant: Mutant, module: ModuleType) -> bool:
    """Put the change into the running `module`; return whether anything was there to change."""
    return replace_codes(mutant.tree, module) if mutant.function else apply_constant(mutant, module)


def replace_codes(tree: ast.Module, module: ModuleType) -> bool:
    """Give each function of the running `module` its code in `tree`; return whether there was any."""
    code = compile(tree, module.__file__ or "", "exec", dont_inherit=True)
    old_and_new = {(new.co_name, new.co_firstlineno): new for new in inner_codes(code)}
    found = False
    for function in own_functions(module):
        old = function.__code__
        new = old_and_new.get((old.co_name, old.co_firstlineno))
        if new is not None and old.co_freevars == new.co_freevars:
            function.__code__ = new
            found = True
    return found


@functools.cache
def all_functions() -> list[FunctionType]:
    """Return all functions that the imported modules defined.

    The search touches every object, which a fork pays for with a copy of its memory: it is done once, before the forks.
    """
    return [found for found in gc.get_objects() if type(found) is FunctionType]


@functools.cache
def own_functions(module: ModuleType) -> list[FunctionType]:
    """Return the functions that `module` defined when it was imported."""
    return [function for function in all_functions() if function.__code__.co_filename == module.__file__]


def apply_constant(mutant: Mutant, module: ModuleType) -> bool:
    """Evaluate the changed assignment, and give its value to each module that imported the old one."""
    for node in mutant.tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if node.lineno <= mutant.line <= (node.end_lineno or 0) and len(targets) == 1:
            (target,) = targets
            if isinstance(target, ast.Name) and node.value is not None:
                new = eval(compile(ast.Expression(node.value), "", "eval"), module.__dict__)
                old = module.__dict__[target.id]
                holders = [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get(target.id) is old]
                for holder in holders:
                    holder.__dict__[target.id] = new
                for function in all_functions():
                    if function.__module__ in {holder.__name__ for holder in holders}:
                        replace_defaults(function, old, new)
                return True
    return False


def replace_defaults(function: FunctionType, old: object, new: object) -> None:
    """Put `new` in place of each default of `function` that is the object `old`."""
    if function.__defaults__:
        function.__defaults__ = tuple(new if value is old else value for value in function.__defaults__)
    if function.__kwdefaults__:
        function.__kwdefaults__ = {
            name: new if value is old else value for name, value in function.__kwdefaults__.items()
        }


def inner_codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from inner_codes(constant)


class Runner:
    """A plugin of pytest: in place of the run of the collected tests, it runs them once for each change."""

    def __init__(self, modules: Sequence[str], count: int) -> None:
        self.modules = modules
        self.count = count
        self.missed: dict[str, list[str]] = {}
        self.failed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        modules = [importlib.import_module(f"lxcompress.{name.replace('/', '.')}") for name in self.modules]
        all_functions()
        gc.freeze()  # a collection in a fork would copy its memory
        for name, module in zip(self.modules, modules, strict=True):
            self.check(name, module, session)
        return True

    def check(self, name: str, module: ModuleType, session: pytest.Session) -> None:
        """Print the row of one module."""
        began, cpu = time.monotonic(), os.times()
        own = [item for item in session.items if item.nodeid.split("::")[0] in TESTS[name]]
        own_functions(module)
        traced = trace(session, own, module)
        wrong = [test.nodeid for test in traced if test.failed]
        if wrong or len(traced) < len(own):
            self.failed = True
            print(f"{name}: its tests fail without any change: {wrong[:3] or 'the traced run ended early'}")
            return
        seconds = {test.nodeid: test.seconds for test in traced}
        mutants = make_mutants(name)
        step = max(1, -(-len(mutants) // self.count)) if self.count else 1
        mutants = mutants[::step]
        running: dict[int, Mutant] = {}
        outcomes: dict[str, str] = {}
        waiting = list(mutants)
        ends: dict[int, float] = {}
        folders: dict[int, str] = {}
        while waiting or running:
            while waiting and len(running) < JOBS:
                mutant = waiting.pop(0)
                items = choose_tests(mutant, own, traced)
                folder = tempfile.mkdtemp(prefix="mutant")
                child = fork(session, mutant, module, items, Path(folder))
                limit = LEAST_S + SLOWER * sum(seconds[item.nodeid] for item in items)
                running[child], ends[child], folders[child] = mutant, time.monotonic() + limit, folder
            child, status = os.waitpid(-1, os.WNOHANG)
            if child:
                shutil.rmtree(folders.pop(child), ignore_errors=True)
                mutant = running.pop(child)
                outcomes[mutant.name] = {0: "missed", 2: "nothing"}.get(os.waitstatus_to_exitcode(status), "noticed")
                continue
            for late in [each for each in running if time.monotonic() > ends[each]]:
                os.killpg(late, signal.SIGKILL)
                ends[late] += LEAST_S
            select.select([], [], [], 0.005)
        used = sum(os.times()[:4]) - sum(cpu[:4])
        counted = Counter(outcomes.values())
        known = SURVIVORS.get(name, {})
        missed = [m for m in mutants if outcomes[m.name] == "missed" and m.name not in known]
        excused = counted["missed"] - len(missed)
        total = counted["noticed"] + len(missed)
        share = counted["noticed"] / total if total else 1.0
        print(
            f"| {name} | {total} | {counted['noticed']} | {share:.1%} | {excused} "
            f"| {time.monotonic() - began:.0f} | {used:.0f} |",
            flush=True,
        )
        for mutant in missed:
            print(f"    {name}.py:{mutant.line} {mutant.name}", flush=True)
        for gone in set(known) - {m.name for m in make_mutants(name)}:
            print(f"    {name}: tests/survivors.py names a change that is none: {gone}", flush=True)
        self.missed[name] = [m.name for m in missed]
        self.failed |= share < 0.95


class Recorder(ast.NodeTransformer):
    """Begins each function of one outermost function with a statement that records its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(self.record()))
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.generic_visit(node)
        node.body = ast.Subscript(ast.Tuple([self.record(), node.body], ast.Load()), ast.Constant(1), ast.Load())
        return node

    def record(self) -> ast.Call:
        add = ast.Attribute(ast.Name(CALLED, ast.Load()), "add", ast.Load())
        return ast.Call(add, [ast.Constant(self.name)], [])


def record_calls(module: ModuleType) -> set[str]:
    """Change the functions of the running `module`, and return the set in which each call puts a name."""
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    names = {first: name for name, first, _ in spans(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first in names:
                Recorder(names[first]).visit(node)
    called: set[str] = set()
    module.__dict__[CALLED] = called
    replace_codes(ast.fix_missing_locations(tree), module)
    return called


@dataclass(frozen=True)
class Traced:
    """The record of one test that ran without any change to the code."""

    nodeid: str
    in_fixtures: list[str]
    """the functions of the module that its fixtures called"""
    called: list[str]
    """the functions of the module that it or its fixtures called"""
    seconds: float
    failed: bool


def trace(session: pytest.Session, items: Sequence[pytest.Item], module: ModuleType) -> list[Traced]:
    """Run `items` once, in a fork; return what each did, as far as the run came."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        folder = Path(tempfile.mkdtemp(prefix="mutant"))
        enter(session, folder)
        called = record_calls(module)
        watch = FixtureWatch(called)
        session.config.pluginmanager.register(watch)
        with os.fdopen(write, "w") as stream:
            for index, item in enumerate(items):
                called.clear()
                began = time.perf_counter()
                failed = run_item(session, items, index)
                seconds = time.perf_counter() - began
                json.dump([item.nodeid, watch.in_fixtures, sorted(called), seconds, failed], stream)
                stream.write("\n")
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        traced = [Traced(*json.loads(line)) for line in stream]
    os.waitpid(child, 0)
    return traced


class FixtureWatch:
    """A plugin of pytest that keeps which functions were called before the test itself began."""

    def __init__(self, called: set[str]) -> None:
        self.called = called
        self.in_fixtures: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        self.in_fixtures = sorted(self.called)


def choose_tests(mutant: Mutant, items: Sequence[pytest.Item], traced: Sequence[Traced]) -> list[pytest.Item]:
    """Return the tests that may notice the change, the quickest first.

    A fixture may be shared by tests of which only the first calls the changed function: then it is every test.
    """
    every = not mutant.function or any(mutant.function in test.in_fixtures for test in traced)
    seconds = {test.nodeid: test.seconds for test in traced if every or mutant.function in test.called}
    return sorted((item for item in items if item.nodeid in seconds), key=lambda item: seconds[item.nodeid])


def fork(
    session: pytest.Session, mutant: Mutant, module: ModuleType, items: Sequence[pytest.Item], folder: Path
) -> int:
    """Start a process that ends with 1 if a test notices the change, 0 if none does, 2 if nothing is changed."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        enter(session, folder)
        if not apply(mutant, module):
            status = 2
        else:
            status = int(any(run_item(session, items, index) for index in range(len(items))))
    finally:
        os._exit(status)


def enter(session: pytest.Session, folder: Path) -> None:
    """Give a forked process its own folder, and no screen."""
    void = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(void, descriptor)
    factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = folder


def run_item(session: pytest.Session, items: Sequence[pytest.Item], index: int) -> bool:
    """Run one test; return whether it fails."""
    from _pytest.runner import runtestprotocol

    following = items[index + 1] if index + 1 < len(items) else None
    reports = runtestprotocol(items[index], log=False, nextitem=following)
    return any(report.failed for report in reports)


def main(arguments: Sequence[str]) -> int:
    """Check the modules named, or all; `--count N` checks about N changes a module."""
    count = int(arguments[arguments.index("--count") + 1]) if "--count" in arguments else 0
    names = [each for each in arguments if each in TESTS] or list(TESTS)
    unknown = [each for each in arguments if each not in TESTS and each != "--count" and not each.isdigit()]
    if unknown:
        print(f"{unknown[0]}: expected one of {', '.join(TESTS)}")
        return 2
    print(
        "| module | changes | noticed | share | with a reason | s | CPU s |\n|---|---|---|---|---|---|---|", flush=True
    )
    runner = Runner(names, count)
    files = sorted({file for name in names for file in TESTS[name]})
    options = [
        "-o",
        "addopts=",
        "--disable-plugin-autoload",
        "-p",
        "timeout",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminal",
    ]
    code = pytest.main([*options, "-m", "not slow and not native", *files], plugins=[runner])
    return int(runner.failed or code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

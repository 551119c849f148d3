"""The house rules that reading the files can check: floors, packages, first lines, lengths, names, links."""

from __future__ import annotations

import ast
import gc
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib as toml
else:
    import tomlkit as toml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "onnxpuma": ROOT / "onnxpuma",
    "onnxpuma.ops": ROOT / "ops",
    "onnxpuma.transport": ROOT / "transport",
}
GENERATED = ("_pb2.py",)
LONGEST = 300

CREATORS = (
    "arange", "array", "asarray", "ascontiguousarray", "broadcast_to", "concatenate", "dstack", "empty",
    "empty_like", "eye", "frombuffer", "fromiter", "full", "full_like", "hstack", "linspace", "ones",
    "ones_like", "packbits", "stack", "unpackbits", "vstack", "zeros", "zeros_like",
)  # fmt: skip
CREATING = ("onnxpuma.mpc.ring.", "onnxpuma.mpc.forms.")  # the rooms that may call them

# From the ground up. A room imports itself and the floors below, never a neighbour on its own floor.
FLOORS = (
    ("errors", "standard", "versions"),
    ("checked_file", "transport", "graph"),
    ("config",),
    ("cluster_template", "mpc"),
    ("ops",),
    ("plan",),
    ("observe",),
    ("interpreter",),
    ("roles",),
    ("check",),
    ("backend", "session", "shipped", "tasks"),
    ("gateway",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

# The chambers of a room, from the ground up, by the same rule.
CHAMBERS = {
    # An audit runs servers again, so it imports what determines their messages.
    "roles": (("request", "shared"), ("client", "owner", "server"), ("audit", "local")),
    "plan": (
        ("digests", "noise"),
        ("draft", "inputs", "narrow", "owner_policy", "plan", "weights"),
        ("policy_file", "streaming", "timeline", "together"),
        ("lanes",),
        ("blueprint",),
        ("declared", "memory", "prepare", "shapes"),
        ("budget",),
        ("known",),
        ("bounds",),
        ("refits", "schedule", "walk"),
        ("formats",),
        ("terms",),
        ("narrow_weights",),
        ("doubled",),
        ("compile",),
        ("examine",),
    ),
}


def package_files() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for package, folder in ROOMS.items():
        for path in folder.rglob("*.py"):
            inside = path.relative_to(folder)
            linked = package == "onnxpuma" and inside.parts[0] in ("ops", "transport", "models")
            if not linked and not path.name.endswith(GENERATED):
                found[".".join((package, *inside.with_suffix("").parts))] = path
    return found


MODULES = package_files()
PYTHON = [
    *MODULES.values(),
    *(p for room in ("tools", "tests", "benchmarks") for p in (ROOT / room).rglob("*.py")),
    ROOT / "setup.py",
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text_of(path: Path) -> str:
    return path.read_text()


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """All nodes of a file's syntax tree, the module first. Each file is parsed once for all rules."""
    return list(ast.walk(ast.parse(text_of(path))))


@pytest.fixture(scope="module", autouse=True)
def _trees() -> Iterator[None]:
    """Syntax trees have no cycles: nobody needs to walk these millions of nodes in search of garbage."""
    gc.disable()
    yield
    for kept in (text_of, nodes_of, imported, exists):
        kept.cache_clear()
    gc.enable()


def hold(complaints: Iterable[str]) -> None:
    """Fail with all that a rule has to say, of all files."""
    assert not (found := list(complaints)), "\n".join(found)


def is_named(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


@cache
def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it; `onnxpuma` for the package itself."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out: from onnxpuma.room import thing"
            rooms = {f"onnxpuma.{a.name}" for a in node.names if a.name in LEVEL}
            found |= rooms if node.module == "onnxpuma" and rooms else {node.module or ""}
    return {name for name in found if name.split(".")[0] == "onnxpuma"}


def test_imports_run_downward() -> None:
    def complaints() -> Iterator[str]:
        for module in sorted(m for m in MODULES if m != "onnxpuma.__init__"):
            room = module.split(".")[1]
            if room not in LEVEL:
                yield f"{room} has no floor: put it into the list"
                continue
            for other in imported(MODULES[module]) - {"onnxpuma"}:
                below = other.split(".")[1]
                if below != room and LEVEL[below] >= LEVEL[room]:
                    yield f"{module} looks up to {other}"

    hold(complaints())


@pytest.mark.parametrize("room", CHAMBERS)
def test_chambers_import_downward(room: str) -> None:
    level = {chamber: at for at, chambers in enumerate(CHAMBERS[room]) for chamber in chambers}
    inside = f"onnxpuma.{room}."
    for module in (name for name in MODULES if name.startswith(inside) and name != f"{inside}__init__"):
        chamber = module.removeprefix(inside).split(".")[0]
        assert chamber in level, f"{room}/{chamber} has no place: put it into the list"
        for other in imported(MODULES[module]):
            if other.startswith(inside):
                below = other.removeprefix(inside).split(".")[0]
                assert below == chamber or level[below] < level[chamber], f"{module} looks up to {other}"


def test_the_package_itself_offers_names_and_nothing_reads_them_from_within() -> None:
    for module, path in MODULES.items():
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and node.module == "onnxpuma":
                names = {a.name for a in node.names} - set(LEVEL)
                assert names <= {"__version__"}, f"{module} reads {names} from the top of the package"


def test_every_package_folder_is_listed() -> None:
    project = toml.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {name.rsplit(".", 1)[0] for name in MODULES}
    assert listed - {"onnxpuma.models"} == folders


@pytest.mark.parametrize("room", ["ops", "transport", "models"])
def test_rooms_at_the_top_are_linked_into_the_package(room: str) -> None:
    link = ROOT / "onnxpuma" / room
    assert link.is_symlink(), f"onnxpuma/{room} is a link to ../{room}, and is committed as one"
    assert link.resolve() == ROOT / room


def test_words_are_created_in_ring_and_forms_alone() -> None:
    hold(
        f"{module}:{node.lineno} calls np.{node.attr}: see ring/arrays"
        for module in sorted(MODULES)
        if module.startswith("onnxpuma.mpc") and not module.startswith(CREATING)
        for node in nodes_of(MODULES[module])
        if isinstance(node, ast.Attribute) and is_named(node.value, "np", "numpy") and node.attr in CREATORS
    )


# The audit enumerates views in numpy, whatever library computes the words.
NAMING = ("onnxpuma.mpc.", "onnxpuma.plan.", "onnxpuma.roles.", "onnxpuma.check.", "onnxpuma.interpreter")


def test_the_type_of_a_word_is_named_in_ring_and_forms_alone() -> None:
    hold(
        f"{module}:{node.lineno} names np.{node.attr}: see ring/words"
        for module in sorted(MODULES)
        if module.startswith(NAMING) and not module.startswith((*CREATING, "onnxpuma.mpc.audit"))
        for node in nodes_of(MODULES[module])
        if isinstance(node, ast.Attribute) and node.attr.startswith("uint")
    )


READERS = (  # standard/signature.py reads schemas alone
    "onnxpuma.graph.", "onnxpuma.standard.signature", "onnxpuma.backend",
    "onnxpuma.check.single", "onnxpuma.roles.local.memory",
)  # fmt: skip


def test_protobufs_of_onnx_are_read_in_graph_alone() -> None:
    hold(
        f"{module}:{node.lineno} imports {name}"
        for module in sorted(MODULES)
        if not module.startswith(READERS)
        for node in nodes_of(MODULES[module])
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] == "onnx"
    )


def test_first_line_says_what_the_file_holds() -> None:
    def complaints() -> Iterator[str]:
        for path in PYTHON:
            text = text_of(path)
            if not text and path.name == "__init__.py":
                continue
            module = ast.parse(text)
            first = next((line for line in text.splitlines() if not line.startswith("#!")), "")
            if not ast.get_docstring(module) or not first.startswith('"""'):
                yield f"{named(path)} does not say what it holds"

    hold(complaints())


def test_a_file_holds_one_idea() -> None:
    def complaints() -> Iterator[str]:
        for path in (p for p in PYTHON if "tests" not in p.parts):
            if path.stem in ("utils", "helpers", "common", "manager", "misc"):
                yield f"{named(path)} names no idea"
            length = len(text_of(path).splitlines())
            if length > LONGEST:
                yield f"{named(path)} has {length} lines: two ideas?"

    hold(complaints())


def test_nothing_is_left_undone() -> None:
    hold(
        f"{named(path)}: {found[0]}"
        for path in PYTHON
        if path != Path(__file__).resolve()
        and (found := re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text_of(path)))
    )


def test_library_code_neither_prints_nor_exits() -> None:
    hold(
        f"{named(path)}:{node.lineno} calls {called}"
        for path in sorted(MODULES.values())
        if "commands" not in path.parts and path.name != "cli.py"
        if 'if __name__ == "__main__"' not in text_of(path)  # a program
        for node in nodes_of(path)
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute))
        if (called := ast.unparse(node.func)) in ("print", "exit", "quit", "sys.exit", "os._exit")
    )


INEXACT = {
    "exp",
    "expm1",
    "exp2",
    "log",
    "log1p",
    "log10",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "pow",
    "power",
}
TOLD = ROOT / "onnxpuma" / "mpc"


def test_no_message_depends_on_a_machines_mathematical_library() -> None:
    """Machines differ in the last place of these functions, and three servers must send the same bits."""
    hold(
        f"{named(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(p for p in TOLD.rglob("*.py") if "audit" not in p.parts)
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and is_named(node.value, "math", "np") and node.attr in INEXACT
    )


WORDS = {"first", "second", "words", "components", "halves", "half", "total"}  # a party's part of a secret
CONSTRUCTORS = {"Replicated", "Sum3", "Split", "Pair", "Bit", "Weights"}


def test_operators_leave_words_to_the_forms() -> None:
    """Another array library could hold the words: operators neither make them nor look at them."""

    def complaints() -> Iterator[str]:
        for path in sorted((ROOT / "ops").glob("*.py")):
            for node in nodes_of(path):
                place = f"{named(path)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.Attribute):
                    if node.attr.lstrip("_") in WORDS:
                        yield f"{place} reaches into a form: .{node.attr}"
                    if node.attr.startswith("uint"):
                        yield f"{place} makes words: {ast.unparse(node)}"
                elif isinstance(node, ast.Call) and is_named(node.func, *CONSTRUCTORS):
                    yield f"{place} builds a form: {ast.unparse(node.func)}"
                elif isinstance(node, ast.ImportFrom) and node.module == "onnxpuma.mpc.ring.words":
                    yield f"{place} imports {node.module}"

    hold(complaints())


def test_links_in_the_documents_lead_somewhere() -> None:
    hold(
        f"{named(path)} links to {target}"
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(path))
        if not target.startswith(("http:", "https:", "mailto:")) and not (path.parent / target).exists()
    )


DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("models/*.md")]
SHORT = [ROOT, ROOT / "onnxpuma", ROOT / "tools", ROOT / "benchmarks"]  # a path may begin in any of these
TOP = {"benchmarks", "docs", "onnxpuma", "tests", "tools"}
FOLDERS = TOP | {p.name for base in SHORT[1:] for p in base.iterdir() if p.is_dir() and p.name.isalpha()}
PATHS = re.compile(
    rf"(?<![\w/.{{-])((?:{'|'.join(sorted(FOLDERS))})/(?:[\w./-]*\w\.[a-z]+|(?:[\w-]+/)*))(?![\w*])"
)
LONE = re.compile(r"`(\w+\.py)`")
YOURS = {"onnx.py", "random.py"}  # in the user's own folder, as docs/security.md supposes


@cache
def exists(target: str) -> bool:
    return any((base / target).exists() for base in SHORT)


def test_files_that_a_text_names_exist() -> None:
    files = {path.name for path in PYTHON}

    def complaints() -> Iterator[str]:
        for path in (*DOCUMENTS, *PYTHON):
            text = text_of(path)
            for target in PATHS.findall(text):
                if "NAME" not in target and not exists(target):
                    yield f"{named(path)} names {target}"
            for name in set(LONE.findall(text)) - YOURS - files if path.suffix == ".md" else ():
                yield f"{named(path)} names {name}"

    hold(complaints())


def prose(path: Path) -> str:
    """The text of a document without code; the docstrings and comments of a module."""
    text = text_of(path)
    if path.suffix == ".md":
        return re.sub(r"```.*?```|`[^`\n]*`|^ {4}.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    said = [t.string for t in tokens if t.type == tokenize.COMMENT or t.string.startswith('"""')]
    return re.sub(r"`[^`]*`", "", "\n".join(said))


def test_sources_that_a_text_cites_are_in_the_bibliography() -> None:
    listed = re.findall(r"^\| \[([\w-]+)\] \|", text_of(ROOT / "docs" / "bibliography.md"), re.MULTILINE)

    def complaints() -> Iterator[str]:
        for path in (p for p in (*DOCUMENTS, *PYTHON) if "tests" not in p.parts):
            if not re.search(r"\[[A-Z`]", text_of(path)):
                continue  # no need to find out which of it is prose
            cited = re.findall(r"(?<![!\w\]])\[([A-Z][\w-]*(?: [\d.]+)?(?:; [^\]]*)?)\](?!\()", prose(path))
            keys = {each.split()[0] for source in cited for each in source.split("; ")}
            if not keys <= set(listed):
                yield f"{named(path)} cites {keys - set(listed)}"

    hold(complaints())

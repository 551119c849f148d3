"""The house rules that reading the files can check: floors, packages, first lines, lengths, names, links."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
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
        ("noise",),
        ("draft", "inputs", "narrow", "owner_policy", "plan", "weights"),
        ("policy_file", "streaming", "timeline", "together"),
        ("blueprint",),
        ("declared", "memory", "prepare", "shapes"),
        ("budget",),
        ("known",),
        ("bounds",),
        ("formats", "schedule", "walk"),
        ("narrow_weights",),
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


def imported(tree: ast.AST) -> set[str]:
    """The modules of this package that a file imports, anywhere in it; `onnxpuma` for the package itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out: from onnxpuma.room import thing"
            rooms = {f"onnxpuma.{a.name}" for a in node.names if a.name in LEVEL}
            found |= rooms if node.module == "onnxpuma" and rooms else {node.module or ""}
    return {name for name in found if name.split(".")[0] == "onnxpuma"}


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m != "onnxpuma.__init__"))
def test_imports_run_downward(module: str) -> None:
    room = module.split(".")[1]
    assert room in LEVEL, f"{room} has no floor: put it into the list"
    for other in imported(ast.parse(MODULES[module].read_text())):
        if other == "onnxpuma":
            continue
        below = other.split(".")[1]
        assert below == room or LEVEL[below] < LEVEL[room], f"{module} looks up to {other}"


@pytest.mark.parametrize("room", CHAMBERS)
def test_chambers_import_downward(room: str) -> None:
    level = {chamber: at for at, chambers in enumerate(CHAMBERS[room]) for chamber in chambers}
    inside = f"onnxpuma.{room}."
    for module in (name for name in MODULES if name.startswith(inside) and name != f"{inside}__init__"):
        chamber = module.removeprefix(inside).split(".")[0]
        assert chamber in level, f"{room}/{chamber} has no place: put it into the list"
        for other in imported(ast.parse(MODULES[module].read_text())):
            if other.startswith(inside):
                below = other.removeprefix(inside).split(".")[0]
                assert below == chamber or level[below] < level[chamber], f"{module} looks up to {other}"


def test_the_package_itself_offers_names_and_nothing_reads_them_from_within() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
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


@pytest.mark.parametrize(
    "module",
    [m for m in sorted(MODULES) if m.startswith("onnxpuma.mpc") and not m.startswith(CREATING)],
)
def test_words_are_created_in_ring_and_forms_alone(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np", "numpy"):
            assert node.attr not in CREATORS, f"{module}:{node.lineno} calls np.{node.attr}: see ring/arrays"


# The audit enumerates views in numpy, whatever library computes the words.
NAMING = ("onnxpuma.mpc.", "onnxpuma.plan.", "onnxpuma.roles.", "onnxpuma.check.", "onnxpuma.interpreter")


@pytest.mark.parametrize(
    "module",
    [
        m
        for m in sorted(MODULES)
        if m.startswith(NAMING) and not m.startswith((*CREATING, "onnxpuma.mpc.audit"))
    ],
)
def test_the_type_of_a_word_is_named_in_ring_and_forms_alone(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("uint"), (
                f"{module}:{node.lineno} names np.{node.attr}: see ring/words"
            )


READERS = (  # standard/signature.py reads schemas alone
    "onnxpuma.graph.", "onnxpuma.standard.signature", "onnxpuma.backend",
    "onnxpuma.check.single", "onnxpuma.roles.local.memory",
)  # fmt: skip


@pytest.mark.parametrize("module", [m for m in sorted(MODULES) if not m.startswith(READERS)])
def test_protobufs_of_onnx_are_read_in_graph_alone(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                assert name.split(".")[0] != "onnx", f"{module}:{node.lineno} imports {name}"


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_first_line_says_what_the_file_holds(path: Path) -> None:
    text = path.read_text()
    if text or path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{named(path)} does not say what it holds"
        first = next(line for line in text.splitlines() if not line.startswith("#!"))
        assert first.startswith('"""')


@pytest.mark.parametrize("path", [p for p in PYTHON if "tests" not in p.parts], ids=named)
def test_a_file_holds_one_idea(path: Path) -> None:
    assert path.stem not in ("utils", "helpers", "common", "manager", "misc")
    length = len(path.read_text().splitlines())
    assert length <= LONGEST, f"{named(path)} has {length} lines: two ideas?"


@pytest.mark.parametrize("path", [p for p in PYTHON if p != Path(__file__).resolve()], ids=named)
def test_nothing_is_left_undone(path: Path) -> None:
    found = re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())
    assert not found, f"{named(path)}: {found and found[0]}"


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(MODULES.values()) if "commands" not in p.parts and p.name != "cli.py"],
    ids=named,
)
def test_library_code_neither_prints_nor_exits(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if 'if __name__ == "__main__"' in path.read_text():
        return  # a program
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "exit", "quit", "sys.exit", "os._exit"), (
                f"{named(path)}:{node.lineno}"
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


@pytest.mark.parametrize("path", sorted(p for p in TOLD.rglob("*.py") if "audit" not in p.parts), ids=named)
def test_no_message_depends_on_a_machines_mathematical_library(path: Path) -> None:
    """Machines differ in the last place of these functions, and three servers must send the same bits."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("math", "np"):
            assert node.attr not in INEXACT, f"{named(path)}:{node.lineno}: {ast.unparse(node)}"


WORDS = {"first", "second", "words", "components", "halves", "half", "total"}  # a party's part of a secret
CONSTRUCTORS = {"Replicated", "Sum3", "Split", "Pair", "Bit", "Weights"}


@pytest.mark.parametrize("path", sorted((ROOT / "ops").glob("*.py")), ids=named)
def test_operators_leave_words_to_the_forms(path: Path) -> None:
    """Another array library could hold the words: operators neither make them nor look at them."""
    for node in ast.walk(ast.parse(path.read_text())):
        place = f"{named(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute):
            assert node.attr.lstrip("_") not in WORDS, f"{place} reaches into a form: .{node.attr}"
            assert not node.attr.startswith("uint"), f"{place} makes words: {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in CONSTRUCTORS, f"{place} builds a form: {called}"
        elif isinstance(node, ast.ImportFrom):
            assert node.module != "onnxpuma.mpc.ring.words", f"{place} imports {node.module}"


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=named)
def test_links_in_the_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), f"{named(path)} links to {target}"


DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("models/*.md")]
SHORT = [ROOT, ROOT / "onnxpuma", ROOT / "tools", ROOT / "benchmarks"]  # a path may begin in any of these
TOP = {"benchmarks", "docs", "onnxpuma", "tests", "tools"}
FOLDERS = TOP | {p.name for base in SHORT[1:] for p in base.iterdir() if p.is_dir() and p.name.isalpha()}
PATHS = re.compile(
    rf"(?<![\w/.{{-])((?:{'|'.join(sorted(FOLDERS))})/(?:[\w./-]*\w\.[a-z]+|(?:[\w-]+/)*))(?![\w*])"
)
LONE = re.compile(r"`(\w+\.py)`")
YOURS = {"onnx.py", "random.py"}  # in the user's own folder, as docs/security.md supposes


@pytest.mark.parametrize("path", [*DOCUMENTS, *PYTHON], ids=named)
def test_files_that_a_text_names_exist(path: Path) -> None:
    text = path.read_text()
    for target in PATHS.findall(text):
        assert "NAME" in target or any((b / target).exists() for b in SHORT), f"{named(path)} names {target}"
    if path.suffix == ".md":
        for name in set(LONE.findall(text)) - YOURS:
            assert any(p.name == name for p in PYTHON), f"{named(path)} names {name}"


def prose(path: Path) -> str:
    """The text of a document without code; the docstrings and comments of a module."""
    text = path.read_text()
    if path.suffix == ".md":
        return re.sub(r"```.*?```|`[^`\n]*`|^ {4}.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    said = [t.string for t in tokens if t.type == tokenize.COMMENT or t.string.startswith('"""')]
    return re.sub(r"`[^`]*`", "", "\n".join(said))


@pytest.mark.parametrize("path", [p for p in (*DOCUMENTS, *PYTHON) if "tests" not in p.parts], ids=named)
def test_sources_that_a_text_cites_are_in_the_bibliography(path: Path) -> None:
    listed = re.findall(r"^\| \[([\w-]+)\] \|", (ROOT / "docs" / "bibliography.md").read_text(), re.MULTILINE)
    cited = re.findall(r"(?<![!\w\]])\[([A-Z][\w-]*(?: [\d.]+)?(?:; [^\]]*)?)\](?!\()", prose(path))
    keys = {each.split()[0] for source in cited for each in source.split("; ")}
    assert keys <= set(listed), f"{named(path)} cites {keys - set(listed)}"

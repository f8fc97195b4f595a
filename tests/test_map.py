"""The docstring of `saturation/__init__.py` is the map of the package; these tests hold the imports to it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import saturation

HEAVY = {"torch", "transformers"}  # what the words, and the figures drawn from them, must do without
ROW = re.compile(r"^    (?:(?P<storey>[a-z]+)|) {2,}(?P<room>[a-z]+) {2,}(?P<says>\S.*)$", re.MULTILINE)


def rooms_of(docstring: str) -> dict[str, str]:
    """Rooms of the map with their storeys, from the top of the page to its foot."""
    rooms, storey = {}, ""
    for row in ROW.finditer(docstring):
        storey = row["storey"] or storey
        rooms[row["room"]] = storey
    return rooms


def sources_of(package: Path) -> dict[str, list[Path]]:
    """Every room found on disk with its files; a room is a module or a folder of modules."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room not in {"__init__", "__main__"}:
            rooms.setdefault(room, []).append(path)
    return rooms


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands, in which room, and the full dotted name it asks for."""

    where: str
    room: str
    name: str

    @property
    def path(self) -> list[str]:
        return self.name.split(".")

    @property
    def file(self) -> str:
        return self.where.partition(":")[0]


def names_of(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import in a file, at whatever depth it stands."""
    here = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            # `from saturation import trace` names the room after the word `import`
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def imports_of(package: Path) -> list[Import]:
    """Every import of every room."""
    return [
        Import(f"{path.relative_to(package.parent)}:{line}", room, name)
        for room, paths in sources_of(package).items()
        for path in paths
        for line, name in names_of(path, package)
    ]


def target_of(name: str, files: Iterable[str]) -> str:
    """The file that a full dotted name is found in: a module of that name, or the one that holds it."""
    stem = name.replace(".", "/")
    return next((one for one in (f"{stem}.py", f"{stem}/__init__.py") if one in files), "") or (
        target_of(name.rpartition(".")[0], files) if "." in name else ""
    )


def circles(inner: list[Import], package: Path) -> Iterator[str]:
    """Files that import each other, whether while they load, later, or for their types alone."""
    files = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for one in inner:
        target = "" if one.path[-1].startswith("__") else target_of(one.name, files)  # such as __name__ is always there
        if target not in ("", one.file, f"{package.name}/__init__.py"):
            graph.setdefault(one.file, set()).add(target)
    while True:
        try:
            return TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = [*reversed(error.args[1])]  # each imports the next
            yield f"files import each other in a circle: {' -> '.join(circle)}"
            graph[circle[0]].remove(circle[1])


def unmatched(rooms: Iterable[str], sources: Iterable[str]) -> list[str]:
    """Rooms that are only on the map, and rooms that are only on disk."""
    return [
        *(f"the map names the room {room}, which does not exist" for room in rooms if room not in sources),
        *(f"the room {room} is not on the map" for room in sources if room not in rooms),
    ]


def misdirected(inner: list[Import], rooms: list[str], sources: Iterable[str]) -> Iterator[str]:
    """Imports from the package that name no room, or a room further down the page."""
    height = {room: index for index, room in enumerate(rooms)}
    for one in inner:
        target = one.path[1] if len(one.path) > 1 else ""
        if target not in sources:
            yield f"{one.where} imports {one.name}: import from the room where it lives"
        elif height.get(target, -1) > height.get(one.room, len(rooms)):
            yield f"{one.where}: {one.room} imports {target}, which stands below it on the map"


def heavy(light: list[str], imports: list[Import], package: str) -> Iterator[str]:
    """Chains of imports that lead from a room that must stay light to torch or transformers."""
    reached: dict[str, set[str]] = {}
    for one in imports:
        steps = one.path[1:2] if one.path[0] == package else HEAVY.intersection(one.path[:1])
        reached.setdefault(one.room, set()).update(steps)
    for room in light:
        for way in ways_from(room, reached):
            if way[-1] in HEAVY:
                chain = " -> ".join(way[:-1])
                yield f"{room} reaches {way[-1]} through {chain}, but must work where {way[-1]} is missing"


def ways_from(room: str, reached: dict[str, set[str]]) -> Iterator[list[str]]:
    """The shortest chain of imports from a room to everything that it reaches."""
    seen, ways = {room}, [[room]]
    for way in ways:  # grows while it is read: a breadth-first walk
        yield way
        for step in sorted(reached.get(way[-1], set()) - seen):
            seen.add(step)
            ways.append([*way, step])


def violations(package: Path) -> list[str]:
    """What in a package contradicts its own map, a sentence each."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    rooms, sources, imports = rooms_of(docstring), sources_of(package), imports_of(package)
    inner = [one for one in imports if one.path[0] == package.name and one.path[1:] != ["__version__"]]
    light = [room for room in sources if rooms.get(room) == "words" or room == "figures"]
    return [
        *unmatched(rooms, sources),
        *misdirected(inner, list(rooms), sources),
        *circles(inner, package),
        *heavy(light, imports, package.name),
    ]


def test_imports_point_up_the_map(root: Path) -> None:
    assert violations(root / "saturation") == []


def test_map_is_read_whole() -> None:
    """A row the pattern overlooks would hide its room from every other test."""
    rooms = rooms_of(saturation.__doc__ or "")
    assert list(dict.fromkeys(rooms.values())) in (
        ["words", "model", "faces"],
        ["words", "model", "experiments", "faces"],
    )
    assert list(rooms) == list(saturation._ROOMS)


MAP = '''"""A house.

    words    trace      numbers
             policies   decisions
    model    recording  watch
    faces    figures    draw
             cli        command

Come in.
"""
'''


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package that keeps to its map."""
    package = tmp_path / "house"
    (package / "figures").mkdir(parents=True)
    sources = {
        "__init__.py": MAP + "from . import cli\n",
        "__main__.py": "from .cli import app\n",
        "trace.py": "import numpy\n",
        "policies.py": "from .trace import Trace\n",
        "recording.py": "import torch\nfrom . import policies\nfrom house.trace import Trace\n",
        "figures/__init__.py": "from .layers import layers\n",
        "figures/layers.py": "from ..trace import Trace\nfrom . import __name__ as own\n",
        "cli.py": "import house.recording\nfrom house import __version__, figures\n",
    }
    for name, text in sources.items():
        (package / name).write_text(text, encoding="utf-8")
    return package


def test_a_house_in_order_passes(house: Path) -> None:
    assert violations(house) == []


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        (
            "trace.py",
            "from .policies import replay",
            "house/trace.py:2: trace imports policies, which stands below it on the map",
        ),
        (
            "trace.py",
            "def late():\n    import house.recording",
            "house/trace.py:3: trace imports recording, which stands below it on the map",
        ),
        (
            "policies.py",
            "if TYPE_CHECKING:\n    from house import cli",
            "house/policies.py:3: policies imports cli, which stands below it on the map",
        ),
        (
            "figures/layers.py",
            "from .. import cli",
            "house/figures/layers.py:3: figures imports cli, which stands below it on the map",
        ),
        (
            "policies.py",
            "import torch.nn as nn",
            "policies reaches torch through policies, but must work where torch is missing",
        ),
        (
            "figures/layers.py",
            "from ..recording import record",
            "figures reaches torch through figures -> recording, but must work where torch is missing",
        ),
        (
            "trace.py",
            "def late():\n    from transformers import AutoModel",
            "trace reaches transformers through trace, but must work where transformers is missing",
        ),
        (
            "recording.py",
            "from house import record",
            "house/recording.py:4 imports house.record: import from the room where it lives",
        ),
        (
            "recording.py",
            "import house",
            "house/recording.py:4 imports house: import from the room where it lives",
        ),
        ("attic.py", "", "the room attic is not on the map"),
        ("cellar/stairs.py", "", "the room cellar is not on the map"),
    ],
)
def test_each_violation_is_named(house: Path, file: str, line: str, sentence: str) -> None:
    path = house / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + line + "\n", encoding="utf-8")
    assert sentence in violations(house)


@pytest.mark.parametrize(
    "line",
    [
        "from .layers import layers",
        "def late():\n    from . import layers",
        "if TYPE_CHECKING:\n    from ..figures.layers import layers",
    ],
)
def test_a_circle_of_files_inside_a_room_is_named(house: Path, line: str) -> None:
    (house / "figures" / "layers.py").write_text("from . import style\n", encoding="utf-8")
    (house / "figures" / "style.py").write_text("import numpy\n", encoding="utf-8")
    assert violations(house) == []
    (house / "figures" / "style.py").write_text(line + "\n", encoding="utf-8")
    (sentence,) = violations(house)
    files = {"house/figures/layers.py", "house/figures/style.py"}
    assert sentence.startswith("files import each other in a circle: house/figures/")
    assert {*sentence.rpartition(": ")[2].split(" -> ")} == files


def test_every_circle_is_named(house: Path) -> None:
    for name in ("a", "b", "c", "d"):
        other = {"a": "b", "b": "a", "c": "d", "d": "c"}[name]
        (house / "figures" / f"{name}.py").write_text(f"from . import {other}\n", encoding="utf-8")
    assert len(violations(house)) == 2


def test_a_room_that_does_not_exist_is_named(house: Path) -> None:
    (house / "recording.py").unlink()
    assert "the map names the room recording, which does not exist" in violations(house)


def test_import_is_silent_and_loads_nothing(root: Path) -> None:
    code = "import saturation, sys; assert saturation.__version__; sys.exit(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert done.stdout == ""
    assert "saturation" in loaded, done.stderr
    assert loaded & {"torch", "transformers", "numpy", "pandas", "pyarrow", "matplotlib", "seaborn", "scipy"} == set()


def test_every_public_name_is_found() -> None:
    for room, names in saturation._ROOMS.items():
        assert isinstance(getattr(saturation, room), ModuleType)
        for name in names:
            assert getattr(saturation, name) is getattr(getattr(saturation, room), name)
    assert {*saturation._ROOMS, *saturation._HOMES, "__version__"} <= set(dir(saturation))


def test_type_checkers_see_what_is_lent(root: Path) -> None:
    """The names under TYPE_CHECKING, which editors read, are those of the lazy table."""
    tree = ast.parse((root / "saturation" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {(node.module, alias.name) for node in block.body for alias in node.names}
    lent = {(room, name) for name, room in saturation._HOMES.items()}
    assert seen == lent | {(None, room) for room in saturation._ROOMS}


def test_an_unknown_name_is_refused_in_a_sentence() -> None:
    rooms, names = ", ".join(saturation._ROOMS), ", ".join(saturation._HOMES)
    with pytest.raises(AttributeError) as refusal:
        saturation.nonsense  # noqa: B018
    assert (
        str(refusal.value) == f"saturation has no attribute 'nonsense'; it has the rooms {rooms} and the names {names}"
    )

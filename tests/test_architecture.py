"""Modules import only from the layers below their own, and dangerous things stay in the few files that have them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = {path.relative_to(ROOT / "src"): path.read_text() for path in sorted((ROOT / "src").rglob("*.rs"))}

LAYERS = [
    {"error", "limits", "hlc", "model", "events", "top_k", "row_ids", "random", "traces", "turns"},
    {"filter", "request", "fusion", "graph", "mmr", "split", "highlight", "sync", "text_index", "vector_index"},
    {"store", "contract", "exchange"},
    {"sqlite", "postgres"},
    {"connect"},
    {"python"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
INSIDE_SQLITE = [
    {
        "sql",
        "filter_sql",
        "row_set",
        "neighbor",
        "tokenizer",
        "ffi",
        "lock",
        "pulse",
        "schema",
        "failpoints",
        "file_system",
    },
    {"tables"},
    {"matching", "row_sets", "derived"},
    {"ops"},
]
UNSAFE = {
    "sqlite/ffi.rs",
    "sqlite/guard.rs",
    "sqlite/fork.rs",
    "sqlite/shm_locks.rs",
    "sqlite/derived/bytes.rs",
    "python/array.rs",
    "python/module.rs",
    "python/rows.rs",
    "vector_index/distance.rs",
    "vector_index/kernels.rs",
}


def code(text):
    """The text without its tests, comments and strings."""
    text = re.split(r"#\[cfg\((?:all\()?test[^\n]*\n(?:#[^\n]*\n)*(?:pub )?mod \w+ \{", text)[0]
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)


def imports(text, root="crate"):
    """What follows `crate::`, also inside one level of braces."""
    found = re.findall(rf"\b{root}::(\w+)", text)
    for group in re.findall(rf"\b{root}::\{{([^}}]*)\}}", text):
        found += re.findall(r"(?:^|,)\s*(\w+)", group)
    return found


def module(path):
    return path.parts[0].removesuffix(".rs")


def test_every_file_is_a_module_of_the_one_above_it():
    for path in SOURCES:
        folder, name = (path.parent.parent, path.parent.name) if path.stem == "mod" else (path.parent, path.stem)
        above = [folder / "lib.rs"] if folder == Path() else [folder / "mod.rs", folder.with_suffix(".rs")]
        declared = "".join(SOURCES.get(file, "") for file in above)
        found = re.search(rf"^(?:pub(?:\(\w+\))? )?mod {name};", declared, re.MULTILINE)
        assert found or path == Path("lib.rs"), f"{path} is compiled by nobody"


def test_every_module_has_a_layer():
    assert len(SOURCES) > 60
    assert {module(path) for path in SOURCES} - {"lib"} <= RANK.keys()


def test_imports_point_down():
    seen = 0
    for path, text in SOURCES.items():
        if module(path) == "lib":
            continue
        for target in imports(code(text)):
            seen += 1
            assert target in RANK, f"{path} imports crate::{target}, which has no layer"
            assert RANK[target] <= RANK[module(path)], f"{path} imports crate::{target}, which is above it"
            assert not (RANK[target] == RANK["sqlite"] == RANK[module(path)] and target != module(path)), (
                f"{path} imports another backend"
            )
    assert seen > 200


def test_inside_sqlite_imports_point_down():
    rank = {name: rank for rank, names in enumerate(INSIDE_SQLITE) for name in names}
    seen = 0
    for path, text in SOURCES.items():
        if module(path) != "sqlite" or len(path.parts) < 2:
            continue
        own = rank.get(path.parts[1].removesuffix(".rs"))
        if own is None:
            continue
        targets = imports(code(text), "crate::sqlite") + (imports(code(text), "super") if len(path.parts) == 2 else [])
        for target in targets:
            seen += target in rank
            assert rank.get(target, 0) <= own, f"{path} imports {target}, which is above it"
    assert seen > 40


def test_python_is_known_to_the_binding_alone():
    users = {str(path) for path, text in SOURCES.items() if re.search(r"\b(pyo3|numpy)::", code(text))}
    assert len(users) > 3
    assert all(user.startswith("python/") for user in users), users


def test_unsafe_stays_where_it_is():
    users = {path.as_posix() for path, text in SOURCES.items() if re.search(r"\bunsafe\b(?!_code)", code(text))}
    assert users
    assert users <= UNSAFE, users - UNSAFE
    for user in users:
        text = SOURCES[Path(user)]
        assert text.count("SAFETY") >= len(re.findall(r"\bunsafe \{", code(text))), user


def test_files_have_one_clear_job():
    lengths = {path: code(text).count("\n") for path, text in SOURCES.items()}
    assert max(lengths.values()) > 100
    assert {path: lines for path, lines in lengths.items() if lines > 520} == {}

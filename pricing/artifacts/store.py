"""Where versions and the deployment pointer live, and the only code that writes them.

<root>/<version>/model.onnx  manifest.json    immutable; the folder is renamed into place when it is whole
<root>/<version>/sales.bin                    only of a version that keeps its sales; sealed by the manifest too
<root>/deployment.json                        the pointer; replaced by rename, its generation only grows
"""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import orjson
from pydantic import ValidationError

from pricing.artifacts.deployment import Deployment, DeploymentPlan, promote
from pricing.artifacts.manifest import Manifest, is_version, version_key
from pricing.artifacts.sales_file import SALES_FILE
from pricing.errors import (
    DamagedArtifactError,
    DeploymentChangedError,
    NothingDeployedError,
    NotWritableError,
    UnknownVersionError,
    UnreadableArtifactError,
    VersionExistsError,
)
from pricing.files.locked_folder import LockedFolder, Stamp
from pricing.format import is_of_a_later_release, reason_of

GRAPH_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
POINTER_FILE: Final = "deployment.json"
REPAIR: Final = "remove the file and promote a version"
MAX_MANIFEST_BYTES: Final = 1024 * 1024  # ours have 11,000
MAX_BYTES: Final = 64 * 1024 * 1024  # of any other file; a forest that learned from 13,000 sales has 8.3 million
NOTHING_BESIDE: Final[Mapping[str, bytes]] = MappingProxyType({})


class Artifact(NamedTuple):
    """A version whose bytes have been verified."""

    manifest: Manifest
    graph: bytes
    sales: bytes | None = None
    """Those that it learned from; None unless it keeps them."""


class Store(LockedFolder):
    """The artifacts folder. Reading needs no write access; nothing is created before the first `publish`."""

    def versions(self) -> list[str]:
        """Published versions, oldest number first."""
        try:
            names = [path.name for path in self.root.iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            msg = f"{self.root} cannot be read: {error.strerror}"
            raise UnreadableArtifactError(msg) from error
        return sorted(filter(is_version, names), key=version_key)

    def read(self, version: str, expected: str | None = None) -> Artifact:
        """Read a version once and verify it: `expected` is the digest of its manifest, as the deployment seals it.

        Raises UnknownVersionError, UnreadableArtifactError or DamagedArtifactError. The graph was read, not loaded: see
        `Predictor`.
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
        if manifest.sales is None:
            return Artifact(manifest, graph)
        sales = _read_file(folder / SALES_FILE)
        _verify(f"{version}/{SALES_FILE}", sales, manifest.sales.sha256)
        return Artifact(manifest, graph, sales)

    def read_beside(self, version: str, name: str) -> bytes | None:
        """The content of another file of a version, which nothing seals; None when there is none."""
        path = self._folder(version) / name
        return _read_file(path) if path.exists() else None

    def publish(self, artifact: Artifact, beside: Mapping[str, bytes] = NOTHING_BESIDE) -> Path:
        """Write a version aside, with the files of `beside`, and rename it into place; returns its folder.

        After a crash at any point the version is there whole or not at all. Raises VersionExistsError or
        NotWritableError, and then nothing has changed.
        """
        manifest, graph, sales = artifact
        _verify(f"the graph of {manifest.version}", graph, manifest.graph.sha256)
        files = {**beside, MANIFEST_FILE: manifest.to_bytes(), GRAPH_FILE: graph}
        if manifest.sales is not None:
            files[SALES_FILE] = sales or b""
            _verify(f"the sales of {manifest.version}", files[SALES_FILE], manifest.sales.sha256)
        target = self._folder(manifest.version)
        for name, data in files.items():
            _check_size(target / name, len(data))
        with self._writing():
            if target.exists():
                msg = f"{manifest.version} is published already; versions never change, name another"
                raise VersionExistsError(msg)
            aside = self._temporary_path(manifest.version)
            try:
                self._disk.make_folder(aside)
                for name, data in files.items():
                    self._disk.write(aside / name, data)
                    self._disk.sync(aside / name)
                    _verify(f"{manifest.version}/{name}", _read_file(aside / name), _sha256(data))
                self._disk.sync(aside)
                self._disk.rename(aside, target)
            except Exception:
                with suppress(OSError):
                    self._disk.remove(aside)
                raise
            self._sync_or(lambda: self._take_away(manifest.version))
        return target

    def prune(self, keep: int, spared: Collection[str] = ()) -> list[str]:
        """Remove the oldest versions beyond `keep`, but neither `spared` nor what the deployment names; returns which.

        Raises NotWritableError; what was removed until then stays removed.
        """
        with self._writing():
            current = self.current()
            named = {*spared, *(() if current is None else current.named())}
            removed = [version for version in self.versions()[:-keep] if version not in named]
            for version in removed:
                self._take_away(version)
        return removed

    def check_writable(self) -> None:
        """Raise NotWritableError when `publish` could not write; writes nothing itself."""
        existing = next(path for path in (self.root.absolute(), *self.root.absolute().parents) if path.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            msg = f"{self.root} cannot be written: no permission to write in {existing}"
            raise NotWritableError(msg)

    def deployment(self) -> Deployment:
        """Return what is deployed. Raises NothingDeployedError, UnreadableArtifactError or DamagedArtifactError."""
        try:
            data = (self.root / POINTER_FILE).read_bytes()
        except FileNotFoundError:
            msg = "no version is deployed"
            raise NothingDeployedError(msg) from None
        except (IsADirectoryError, NotADirectoryError) as error:
            msg = f"{POINTER_FILE} cannot be read: {error.strerror}; {REPAIR}"
            raise DamagedArtifactError(msg) from error
        except OSError as error:
            raise _unreadable(error) from error
        try:
            return Deployment.model_validate_json(data)
        except ValidationError as error:
            alternative = "or " if is_of_a_later_release(error) else ""
            msg = f"{POINTER_FILE}: {reason_of(error)}; {alternative}{REPAIR}"
            raise DamagedArtifactError(msg) from error

    def stamp(self) -> Stamp | None:
        """A value that changes whenever the deployment changes; None if nothing is deployed. Costs one `stat`.

        Raises UnreadableArtifactError.
        """
        try:
            return self._stamp(POINTER_FILE)
        except OSError as error:
            raise _unreadable(error) from error

    def files(self, version: str) -> tuple[Stamp | None, ...]:
        """A value that changes whenever a sealed file of a version changes. Costs three `stat`s."""
        return tuple(self._stamp_or_none(version, name) for name in (MANIFEST_FILE, GRAPH_FILE, SALES_FILE))

    def _stamp_or_none(self, version: str, name: str) -> Stamp | None:
        with suppress(OSError):
            return self._stamp(f"{version}/{name}")
        return None

    def current(self) -> Deployment | None:
        """The same, or None when nothing is deployed. Raises DamagedArtifactError."""
        try:
            return self.deployment()
        except NothingDeployedError:
            return None

    def seal(self, version: str) -> str | None:
        """The digest of its manifest that the deployment has for a version; None when it does not name the version."""
        current = self.current()
        return None if current is None else current.sha256.get(version)

    def deploy(self, version: str) -> Deployment:
        """Promote `version` over whatever is deployed; see `swap_pointer`."""
        if version not in self.versions():  # before the folder is made for the lock
            raise UnknownVersionError(self._unknown(version))
        return self.swap_pointer(lambda current: promote(current, version))

    def swap_pointer(
        self, target: Callable[[Deployment | None], DeploymentPlan], after: int | None = None
    ) -> Deployment:
        """Deploy what `target` makes of the current deployment, under the next generation; returns the new one.

        The files of every version that would answer are verified before. `after` is the generation that the caller
        has seen, 0 for none: of two callers that saw the same, one wins, and the other gets DeploymentChangedError.
        Raises UnknownVersionError, DamagedArtifactError, NotWritableError too; whatever is raised, what was deployed
        still is, though under a further generation when others may have seen the new one.
        """
        with self._writing():
            current = self.current()
            generation, seals = (0, {}) if current is None else (current.generation, current.sha256)
            if after is not None and after != generation:
                msg = (
                    f"generation {generation} was deployed meanwhile, expected {after}; nothing was changed, look again"
                )
                raise DeploymentChangedError(msg)
            champion, previous, split, split_since = target(current)
            for version in {champion, *split}:
                self.read(version, seals.get(version))
            named = [version for version in (champion, previous, *split) if version is not None]
            deployment = Deployment(
                generation=generation + 1,
                champion=champion,
                previous=previous,
                split=dict(split),
                split_since=split_since,
                # sealed once, sealed for good: deploying another must not make right what was changed since
                sha256={version: seals.get(version) or self._digest(version) for version in named},
            )
            self._replace_pointer(deployment)
            self._sync_or(lambda: self._put_back(current, generation + 2))
        return deployment

    def _digest(self, version: str) -> str:
        return _sha256(_read_file(self._folder(version) / MANIFEST_FILE))

    def _replace_pointer(self, deployment: Deployment) -> None:
        data = orjson.dumps(deployment.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        self._replace(POINTER_FILE, data)

    def _put_back(self, former: Deployment | None, generation: int) -> None:
        if former is None:
            self._disk.remove(self.root / POINTER_FILE)
        else:  # under a generation of its own: a worker may have seen the one that is taken back
            self._replace_pointer(former.model_copy(update={"generation": generation}))

    def _take_away(self, version: str) -> None:
        """Remove a version by another name, so that none is ever seen half removed."""
        aside = self._temporary_path(version)
        self._disk.rename(self._folder(version), aside)
        self._disk.sync(self.root)  # it must have lost its name for good before its files go
        self._disk.remove(aside)

    def _folder(self, version: str) -> Path:
        if not is_version(version):
            msg = f"{version!r} is not a version; versions are written v1.2.3"
            raise UnknownVersionError(msg)
        return self.root / version

    def _unknown(self, version: str) -> str:
        return f"{version} was not found; published: {', '.join(self.versions()) or 'nothing'}"


def _unreadable(error: OSError) -> UnreadableArtifactError:
    check = "check the disk, the permissions and the number of open files"
    return UnreadableArtifactError(f"{POINTER_FILE} cannot be read: {error.strerror}; {check}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _verify(what: str, data: bytes, expected: str) -> None:
    observed = _sha256(data)
    if observed != expected:
        msg = f"observed sha256 {observed} of {what} ({len(data):,} bytes) does not match expected {expected}"
        raise DamagedArtifactError(msg)


def _check_size(path: Path, size: int) -> None:
    most = MAX_MANIFEST_BYTES if path.name == MANIFEST_FILE else MAX_BYTES
    if size > most:
        msg = f"observed {size:,} bytes of {path.parent.name}/{path.name}, expected {most:,} at most"
        raise DamagedArtifactError(msg)


def _read_file(path: Path) -> bytes:
    """The content of the file when it is opened, unless that is too large; a pipe or a device holds nothing."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(path, size)
            return file.read(size)
    except OSError as error:
        msg = f"{path.parent.name}/{path.name} cannot be read: {error.strerror}"
        raise UnreadableArtifactError(msg) from error


def _open_at_once(path: str, flags: int) -> int:
    """A pipe would be waited for, and by a worker's only watcher for good."""
    return os.open(path, flags | os.O_NONBLOCK)

"""Publishing, reading and deploying versions, and what happens when that goes wrong in the middle."""

import fcntl
import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.artifacts.deployment import Deployment, DeploymentPlan, promote, split_traffic
from pricing.artifacts.manifest import VERSION_PATTERN
from pricing.artifacts.store import MAX_BYTES, MAX_MANIFEST_BYTES, Artifact, Store
from pricing.errors import (
    ArtifactError,
    DamagedArtifactError,
    DeploymentChangedError,
    NothingDeployedError,
    NotWritableError,
    UnknownVersionError,
    VersionExistsError,
)
from pricing.inference.predictor import load


def named(artifact: Artifact, version: str) -> Artifact:
    """The same artifact as another version."""
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version}))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below `root` with the time of its last change and its content."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in [root, *root.rglob("*")]
    }


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_manifest(store: Store, version: str) -> None:
    """Another seed: still a manifest in every way."""
    path = store.root / version / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"seed": 1}))


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


@pytest.fixture
def two(store: Store, published: Artifact) -> Store:
    """v1.0.0 deployed, v1.1.0 published."""
    store.publish(named(published, "v1.1.0"))
    return store


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Until the test ends, no file of this process can grow above so many bytes: what a full disk does, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestPublishing:
    def test_what_was_published_is_what_is_read(self, empty: Store, published: Artifact) -> None:
        assert empty.publish(published) == empty.root / "v1.0.0"
        assert empty.read("v1.0.0") == published
        assert empty.versions() == ["v1.0.0"]

    def test_a_version_is_its_graph_and_its_manifest_and_nothing_else(self, store: Store, published: Artifact) -> None:
        found = {path.name: path.read_bytes() for path in (store.root / "v1.0.0").iterdir()}
        assert found == {"model.onnx": published.graph, "manifest.json": published.manifest.to_bytes()}

    def test_a_version_is_published_once_and_the_first_stays(self, store: Store, published: Artifact) -> None:
        before = tree(store.root)
        other = published._replace(manifest=published.manifest.model_copy(update={"seed": 1}))
        with pytest.raises(VersionExistsError) as refused:
            store.publish(other)
        assert str(refused.value) == "v1.0.0 is published already; versions never change, name another"
        assert tree(store.root) == before

    def test_of_many_that_publish_one_version_at_once_one_wins(self, empty: Store, published: Artifact) -> None:
        def publish(seed: int) -> int | None:
            manifest = published.manifest.model_copy(update={"seed": seed})
            try:
                Store(empty.root).publish(published._replace(manifest=manifest))
            except VersionExistsError:
                return None
            return seed

        with ThreadPoolExecutor(8) as pool:
            winners = [seed for seed in pool.map(publish, range(8)) if seed is not None]
        assert [empty.read("v1.0.0").manifest.seed] == winners
        assert sorted(path.name for path in empty.root.iterdir()) == [".lock", "v1.0.0"]

    def test_a_graph_that_is_not_the_manifests_is_refused_before_anything_is_written(
        self, empty: Store, published: Artifact
    ) -> None:
        with pytest.raises(DamagedArtifactError) as refused:
            empty.publish(published._replace(graph=b"another"))
        assert str(refused.value) == (
            f"observed sha256 {digest(b'another')} of the graph of v1.0.0 (7 bytes) does not match expected "
            f"{digest(published.graph)}"
        )
        assert not empty.root.exists()

    @pytest.mark.parametrize("beside", [{}, {"test_rows.bin": bytes(MAX_BYTES + 1)}], ids=["graph", "beside"])
    def test_what_nobody_would_read_is_refused_before_anything_is_written(
        self, empty: Store, published: Artifact, beside: dict[str, bytes]
    ) -> None:
        graph = published.graph if beside else bytes(MAX_BYTES + 1)
        described = published.manifest.graph.model_copy(update={"sha256": digest(graph)})
        manifest = published.manifest.model_copy(update={"graph": described})
        with pytest.raises(DamagedArtifactError) as refused:
            empty.publish(Artifact(manifest, graph), beside)
        name = "test_rows.bin" if beside else "model.onnx"
        assert str(refused.value) == f"observed 67,108,865 bytes of v1.0.0/{name}, expected 67,108,864 at most"
        assert not empty.root.exists()

    def test_a_full_disk_leaves_nothing_behind(
        self, empty: Store, published: Artifact, limit_files: Callable[[int], None]
    ) -> None:
        limit_files(len(published.graph) - 1)  # the manifest fits
        with pytest.raises(NotWritableError) as refused:
            empty.publish(published)
        assert str(refused.value) == f"{empty.root} cannot be written: File too large"
        assert [path.name for path in empty.root.iterdir()] == [".lock"]

    def test_a_version_that_cannot_be_renamed_into_place_leaves_nothing_behind(
        self, empty: Store, published: Artifact
    ) -> None:
        empty.root.mkdir()
        (empty.root / "v1.0.0").symlink_to("nowhere")
        with pytest.raises(NotWritableError):
            empty.publish(published)
        assert sorted(path.name for path in empty.root.iterdir()) == [".lock", "v1.0.0"]
        assert empty.versions() == []

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path, published: Artifact) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotWritableError) as refused:
            Store(tmp_path / "file" / "artifacts").publish(published)
        assert str(refused.value) == f"{tmp_path}/file/artifacts cannot be written: Not a directory"

    def test_what_a_killed_publisher_left_is_no_version(self, store: Store, published: Artifact) -> None:
        left = store.root / ".publishing-abc"
        left.mkdir()
        (left / "model.onnx").write_bytes(published.graph[:100])
        assert store.versions() == ["v1.0.0"]
        store.publish(named(published, "v1.1.0"))
        assert store.versions() == ["v1.0.0", "v1.1.0"]

    def test_other_users_may_read_whatever_the_umask(self, empty: Store, published: Artifact) -> None:
        before = os.umask(0o077)
        try:
            empty.publish(published)
            empty.deploy("v1.0.0")
        finally:
            os.umask(before)
        modes = {
            path.relative_to(empty.root).as_posix(): oct(path.stat().st_mode & 0o777) for path in empty.root.rglob("v*")
        }
        modes |= {path.name: oct(path.stat().st_mode & 0o777) for path in empty.root.rglob("*.*") if path.is_file()}
        del modes[".lock"]  # nobody reads it
        assert modes == {
            "v1.0.0": "0o755",
            "model.onnx": "0o644",
            "manifest.json": "0o644",
            "deployment.json": "0o644",
        }


class TestReading:
    def test_one_changed_bit_of_the_graph_is_refused(self, store: Store, published: Artifact) -> None:
        path = store.root / "v1.0.0" / "model.onnx"
        flip_a_bit(path)
        with pytest.raises(DamagedArtifactError) as refused:
            store.read("v1.0.0")
        assert str(refused.value) == (
            f"observed sha256 {digest(path.read_bytes())} of v1.0.0/model.onnx ({len(published.graph):,} bytes) "
            f"does not match expected {digest(published.graph)}"
        )

    def test_a_shortened_graph_is_refused(self, store: Store, published: Artifact) -> None:
        (store.root / "v1.0.0" / "model.onnx").write_bytes(published.graph[:-1])
        with pytest.raises(DamagedArtifactError, match=r"does not match expected"):
            store.read("v1.0.0")

    def test_a_changed_manifest_is_refused_by_the_seal_of_the_deployment(
        self, store: Store, published: Artifact
    ) -> None:
        seal = store.deployment().sha256["v1.0.0"]
        assert seal == store.seal("v1.0.0") == digest(published.manifest.to_bytes())
        change_manifest(store, "v1.0.0")
        changed = (store.root / "v1.0.0" / "manifest.json").read_bytes()
        assert store.read("v1.0.0").manifest.seed == 1  # it is a manifest, only not the one that was deployed
        with pytest.raises(DamagedArtifactError) as refused:
            store.read("v1.0.0", seal)
        assert str(refused.value) == (
            f"observed sha256 {digest(changed)} of v1.0.0/manifest.json ({len(changed):,} bytes) "
            f"does not match expected {seal}"
        )

    def test_a_broken_manifest_is_refused(self, store: Store) -> None:
        (store.root / "v1.0.0" / "manifest.json").write_bytes(b"{}")
        with pytest.raises(DamagedArtifactError, match=r"^manifest\.json has format None, this program reads 3$"):
            store.read("v1.0.0")

    def test_a_folder_under_another_name_is_refused(self, store: Store) -> None:
        (store.root / "v1.0.0").rename(store.root / "v2.0.0")
        with pytest.raises(DamagedArtifactError, match=r"^v2\.0\.0/manifest\.json is the manifest of v1\.0\.0$"):
            store.read("v2.0.0")

    @pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
    def test_a_file_that_is_gone_is_named(self, store: Store, name: str) -> None:
        (store.root / "v1.0.0" / name).unlink()
        with pytest.raises(DamagedArtifactError) as refused:
            store.read("v1.0.0")
        assert str(refused.value) == f"v1.0.0/{name} cannot be read: No such file or directory"

    def test_a_manifest_may_be_as_large_as_that_and_no_larger(self, store: Store) -> None:
        path = store.root / "v1.0.0" / "manifest.json"
        path.write_bytes(path.read_bytes().ljust(MAX_MANIFEST_BYTES))
        store.read("v1.0.0")
        with path.open("ab") as file:
            file.write(b" ")
        with pytest.raises(DamagedArtifactError) as refused:
            store.read("v1.0.0")
        assert str(refused.value) == "observed 1,048,577 bytes of v1.0.0/manifest.json, expected 1,048,576 at most"

    def test_a_file_that_fits_into_no_memory_is_refused_by_its_size(self, store: Store) -> None:
        os.truncate(store.root / "v1.0.0" / "model.onnx", 2**40)
        with pytest.raises(DamagedArtifactError) as refused:
            store.read("v1.0.0")
        assert str(refused.value) == (
            "observed 1,099,511,627,776 bytes of v1.0.0/model.onnx, expected 67,108,864 at most"
        )

    @pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
    def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(self, store: Store, name: str) -> None:
        path = store.root / "v1.0.0" / name
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DamagedArtifactError, match=r"\(0 bytes\) does not match|is not JSON"):
            store.read("v1.0.0")

    def test_an_unknown_version_is_told_with_those_that_are_there(self, two: Store) -> None:
        with pytest.raises(UnknownVersionError) as refused:
            two.read("v9.0.0")
        assert str(refused.value) == "v9.0.0 was not found; published: v1.0.0, v1.1.0"

    @pytest.mark.parametrize("version", ["", ".", "..", "../v1.0.0", "v1.0.0/../v1.0.0", "v1.0", "v1.0.0\n", "v01.0.0"])
    def test_what_is_no_version_is_no_path_either(self, store: Store, version: str) -> None:
        with pytest.raises(UnknownVersionError) as refused:
            store.read(version)
        assert str(refused.value) == f"{version!r} is not a version; versions are written v1.2.3"

    def test_versions_are_listed_by_number_and_nothing_else_is(self, store: Store) -> None:
        for name in ("v1.10.0", "v1.9.0", "v0.1.0", "v1.0.0-old", "V2.0.0", "v2.0.0\n"):
            (store.root / name).mkdir()
        (store.root / "v3.0.0").write_text("a file")
        assert store.versions() == ["v0.1.0", "v1.0.0", "v1.9.0", "v1.10.0"]

    def test_reading_writes_nothing(self, two: Store) -> None:
        before = tree(two.root)
        deployment = two.deployment()
        load(two.read("v1.0.0", deployment.sha256["v1.0.0"]))
        assert two.versions() == ["v1.0.0", "v1.1.0"]
        assert two.seal("v1.1.0") is None
        assert tree(two.root) == before

    def test_looking_at_a_folder_that_is_not_there_does_not_make_it(self, empty: Store) -> None:
        assert empty.versions() == []
        assert empty.seal("v1.0.0") is None
        for look in (empty.read, empty.deploy):
            with pytest.raises(UnknownVersionError, match=r"; published: nothing$"):
                look("v1.0.0")
        with pytest.raises(NothingDeployedError):
            empty.deployment()
        assert not empty.root.exists()


class TestDeploying:
    def test_the_first_deployment_is_generation_1_and_has_no_previous(self, store: Store, published: Artifact) -> None:
        assert store.deployment() == Deployment(
            generation=1, champion="v1.0.0", sha256={"v1.0.0": digest(published.manifest.to_bytes())}
        )
        assert store.deployment().named() == ("v1.0.0",)

    def test_each_deployment_is_one_generation_higher_and_names_the_one_before(self, two: Store) -> None:
        second, third = two.deploy("v1.1.0"), two.deploy("v1.0.0")
        assert (second.generation, second.champion, second.previous) == (2, "v1.1.0", "v1.0.0")
        assert (third.generation, third.champion, third.previous) == (3, "v1.0.0", "v1.1.0")
        assert two.deployment() == third
        assert third.named() == ("v1.0.0", "v1.1.0")
        assert set(third.sha256) == {"v1.0.0", "v1.1.0"}

    def test_deploying_the_champion_again_keeps_the_previous(self, two: Store) -> None:
        two.deploy("v1.1.0")
        again = two.deploy("v1.1.0")
        assert (again.generation, again.champion, again.previous) == (3, "v1.1.0", "v1.0.0")

    def test_nothing_deployed_is_an_error_of_its_own(self, empty: Store, published: Artifact) -> None:
        empty.publish(published)
        with pytest.raises(NothingDeployedError, match=r"^no version is deployed$"):
            empty.deployment()

    def test_an_unknown_version_leaves_the_pointer_as_it_was(self, store: Store) -> None:
        before = (store.root / "deployment.json").read_bytes()
        with pytest.raises(UnknownVersionError):
            store.deploy("v9.0.0")
        assert (store.root / "deployment.json").read_bytes() == before

    def test_a_damaged_version_leaves_the_pointer_as_it_was(self, two: Store) -> None:
        before = (two.root / "deployment.json").read_bytes()
        flip_a_bit(two.root / "v1.1.0" / "model.onnx")
        with pytest.raises(DamagedArtifactError):
            two.deploy("v1.1.0")
        assert (two.root / "deployment.json").read_bytes() == before

    def test_deploying_again_does_not_make_a_changed_manifest_right(self, two: Store) -> None:
        change_manifest(two, "v1.0.0")
        with pytest.raises(DamagedArtifactError, match=r"v1\.0\.0/manifest\.json"):
            two.deploy("v1.0.0")

    def test_deploying_another_does_not_make_the_changed_manifest_of_the_previous_right(self, two: Store) -> None:
        seal = two.seal("v1.0.0")
        change_manifest(two, "v1.0.0")
        assert two.deploy("v1.1.0").sha256["v1.0.0"] == seal

    def test_another_version_can_be_deployed_when_the_files_of_the_champion_are_gone(self, two: Store) -> None:
        (two.root / "v1.0.0" / "manifest.json").unlink()
        assert two.deploy("v1.1.0").champion == "v1.1.0"

    def test_a_full_disk_leaves_the_pointer_as_it_was(self, two: Store, limit_files: Callable[[int], None]) -> None:
        pointer = two.root / "deployment.json"
        before = pointer.read_bytes()
        limit_files(len(before) - 1)
        with pytest.raises(NotWritableError):
            two.deploy("v1.1.0")
        assert pointer.read_bytes() == before

    def test_a_deployment_waits_for_the_one_that_holds_the_lock(self, two: Store) -> None:
        with (two.root / ".lock").open() as lock, ThreadPoolExecutor(1) as pool:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = pool.submit(Store(two.root).deploy, "v1.1.0")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert two.deployment().generation == 1
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert waiting.result(timeout=60).generation == 2

    def test_of_many_that_deploy_at_once_each_has_a_generation_of_its_own(self, two: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: Store(two.root).deploy(f"v1.{n % 2}.0").generation, range(8)))
        assert sorted(found) == [2, 3, 4, 5, 6, 7, 8, 9]
        assert two.deployment().generation == 9

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "deployment.json: whole file: Invalid JSON: EOF while parsing a value at line 1 column 0"),
            (b'{"champion": "v1.0.0", "sha256": {}}', "deployment.json: generation: Field required"),
            (
                b'{"generation": 0, "champion": "v1.0.0", "sha256": {}}',
                "deployment.json: generation: Input should be greater than or equal to 1",
            ),
            (
                b'{"format": "1", "generation": 1, "champion": "v1.0.0", "sha256": {}}',
                "deployment.json: whole file: observed format '1', expected a whole number from 1",
            ),
            (
                b'{"generation": 1, "champion": "../v1.0.0", "sha256": {}}',
                f"deployment.json: champion: String should match pattern '{VERSION_PATTERN}'",
            ),
        ],
    )
    def test_a_broken_pointer_is_refused_with_what_and_where(self, store: Store, content: bytes, message: str) -> None:
        (store.root / "deployment.json").write_bytes(content)
        with pytest.raises(DamagedArtifactError) as refused:
            store.deployment()
        assert str(refused.value) == f"{message}; remove the file and promote a version"

    def test_a_pointer_that_cannot_be_read_is_refused(self, store: Store) -> None:
        (store.root / "deployment.json").unlink()
        (store.root / "deployment.json").mkdir()
        with pytest.raises(
            DamagedArtifactError, match=r"^deployment\.json cannot be read: Is a directory; remove the file "
        ):
            store.deployment()


class TestPointing:
    def test_who_has_seen_the_generation_that_is_there_deploys_the_next(self, two: Store) -> None:
        assert two.swap_pointer(lambda now: promote(now, "v1.1.0"), after=1).generation == 2

    @pytest.mark.parametrize("seen", [0, 1, 3])
    def test_who_has_seen_another_is_refused_and_nothing_changes(self, two: Store, seen: int) -> None:
        two.deploy("v1.1.0")
        before = tree(two.root)
        with pytest.raises(DeploymentChangedError) as refused:
            two.swap_pointer(lambda now: promote(now, "v1.0.0"), after=seen)
        assert str(refused.value) == (
            f"generation 2 was deployed meanwhile, expected {seen}; nothing was changed, look again"
        )
        assert tree(two.root) == before

    def test_who_has_seen_nothing_deploys_the_first(self, empty: Store, published: Artifact) -> None:
        empty.publish(published)
        with pytest.raises(DeploymentChangedError, match=r"^generation 0 was deployed meanwhile, expected 1; "):
            empty.swap_pointer(lambda now: promote(now, "v1.0.0"), after=1)
        assert empty.swap_pointer(lambda now: promote(now, "v1.0.0"), after=0).generation == 1

    def test_every_arm_of_a_split_is_verified_before(self, two: Store) -> None:
        flip_a_bit(two.root / "v1.1.0" / "model.onnx")
        before = tree(two.root)
        with pytest.raises(DamagedArtifactError, match=r"of v1\.1\.0/model\.onnx "):
            two.swap_pointer(lambda now: split_traffic(now, {"v1.0.0": 90, "v1.1.0": 10}))
        assert tree(two.root) == before

    def test_the_target_is_made_of_what_is_deployed_under_the_lock(self, two: Store) -> None:
        seen = []

        def target(current: Deployment | None) -> DeploymentPlan:
            seen.append(current)
            return promote(current, "v1.1.0")

        first = two.deployment()
        second = two.swap_pointer(target)
        two.swap_pointer(target)
        assert seen == [first, second]

    def test_every_deployment_has_a_stamp_of_its_own(self, empty: Store, published: Artifact) -> None:
        stamps = [empty.stamp()]
        empty.publish(published)
        for _ in range(3):
            empty.deploy("v1.0.0")
            stamps.append(empty.stamp())
        assert stamps[0] is None
        assert all(before != after for before, after in pairwise(stamps))


class TestBeside:
    def test_files_beside_a_version_are_read_as_they_were_written(self, empty: Store, published: Artifact) -> None:
        empty.publish(published, {"verdict.json": b"{}", "test_rows.bin": b""})
        assert empty.read_beside("v1.0.0", "verdict.json") == b"{}"
        assert empty.read_beside("v1.0.0", "test_rows.bin") == b""
        assert empty.read_beside("v1.0.0", "report.html") is None
        assert empty.read("v1.0.0") == published

    def test_they_do_not_replace_what_makes_the_version(self, empty: Store, published: Artifact) -> None:
        empty.publish(published, {"model.onnx": b"another", "manifest.json": b"{}"})
        assert empty.read("v1.0.0") == published

    def test_a_version_that_is_not_there_has_none(self, empty: Store) -> None:
        assert empty.read_beside("v1.0.0", "verdict.json") is None
        with pytest.raises(UnknownVersionError):
            empty.read_beside("../v1.0.0", "verdict.json")

    def test_one_that_cannot_be_read_is_told(self, store: Store) -> None:
        (store.root / "v1.0.0" / "verdict.json").mkdir()
        with pytest.raises(DamagedArtifactError, match=r"^v1\.0\.0/verdict\.json cannot be read: Is a directory$"):
            store.read_beside("v1.0.0", "verdict.json")


class TestPruning:
    """Of v1.2.0, v1.9.0, v1.10.0 and v1.11.0; as text, v1.10.0 would be the oldest."""

    @pytest.fixture
    def many(self, empty: Store, published: Artifact) -> Store:
        for version in ("v1.10.0", "v1.2.0", "v1.11.0", "v1.9.0"):
            empty.publish(named(published, version), {"verdict.json": b"{}"})
        return empty

    @pytest.mark.parametrize(
        ("keep", "left"),
        [
            (1, ["v1.11.0"]),
            (2, ["v1.10.0", "v1.11.0"]),
            (3, ["v1.9.0", "v1.10.0", "v1.11.0"]),
            (4, ["v1.2.0", "v1.9.0", "v1.10.0", "v1.11.0"]),
            (5, ["v1.2.0", "v1.9.0", "v1.10.0", "v1.11.0"]),
        ],
    )
    def test_the_oldest_by_number_go_and_as_many_as_told_stay(self, many: Store, keep: int, left: list[str]) -> None:
        before = many.versions()
        removed = many.prune(keep)
        assert many.versions() == left
        assert removed == [version for version in before if version not in left]
        assert sorted(path.name for path in many.root.iterdir()) == sorted([".lock", *left])

    def test_champion_previous_and_arms_stay(self, many: Store) -> None:
        many.deploy("v1.9.0")
        many.deploy("v1.2.0")
        assert many.prune(1) == ["v1.10.0"]  # v1.9.0 is the previous one
        many.swap_pointer(lambda now: split_traffic(now, {"v1.2.0": 90, "v1.11.0": 10}))
        assert many.prune(1) == []
        assert many.versions() == ["v1.2.0", "v1.9.0", "v1.11.0"]

    def test_an_old_arm_stays(self, many: Store) -> None:
        many.deploy("v1.11.0")
        many.swap_pointer(lambda now: split_traffic(now, {"v1.11.0": 99, "v1.2.0": 1}))
        assert many.prune(1) == ["v1.9.0", "v1.10.0"]

    def test_the_one_that_is_spared_stays(self, many: Store) -> None:
        assert many.prune(1, {"v1.2.0"}) == ["v1.9.0", "v1.10.0"]

    def test_nothing_goes_when_nobody_knows_what_is_deployed(self, many: Store) -> None:
        (many.root / "deployment.json").write_bytes(b"{")
        with pytest.raises(DamagedArtifactError, match=r"^deployment\.json: "):
            many.prune(1)
        assert len(many.versions()) == 4

    @settings(max_examples=25)  # each publishes six versions
    @given(
        names=st.lists(st.integers(0, 5), min_size=1, max_size=4),
        weight=st.none() | st.integers(1, 99),
        keep=st.integers(1, 7),
        spared=st.none() | st.integers(0, 5),
    )
    def test_what_is_deployed_is_never_removed(
        self, published: Artifact, names: list[int], weight: int | None, keep: int, spared: int | None
    ) -> None:
        with TemporaryDirectory() as folder:
            store, all_of = Store(Path(folder)), [f"v1.{number}.0" for number in range(6)]
            for version in all_of:
                store.publish(named(published, version))
            for number in names:
                store.deploy(f"v1.{number}.0")
            champion, other = store.deployment().champion, f"v1.{(names[-1] + 1) % 6}.0"
            if weight is not None:
                store.swap_pointer(lambda now: split_traffic(now, {champion: 100 - weight, other: weight}))
            spare = None if spared is None else f"v1.{spared}.0"

            removed = store.prune(keep, {spare} if spare else ())

            needed = {*store.deployment().named(), *all_of[-keep:], *([] if spare is None else [spare])}
            assert set(store.versions()) == needed
            assert set(removed) == set(all_of) - needed


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    loop = tmp_path / "artifacts"
    loop.symlink_to(loop)
    with pytest.raises(ArtifactError, match=r"artifacts cannot be read: Too many levels of symbolic links$"):
        Store(loop).versions()


def test_what_a_killed_publish_left_is_removed_by_the_next(store: Store, published: Artifact) -> None:
    left = store.root / ".aside-v1.1.0"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    manifest = published.manifest.model_copy(update={"version": "v1.1.0"})
    store.publish(published._replace(manifest=manifest))
    assert not left.exists()
    assert store.versions() == ["v1.0.0", "v1.1.0"]

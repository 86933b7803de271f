"""`appraiser train` below the command line: the next version, its salt, and what is told."""

import io
from inspect import signature
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact, Store
from pricing.errors import DamagedArtifactError, NotWritableError, VersionExistsError
from pricing.inference.predictor import load
from pricing.inference.sandbox import load_in_sandbox
from tests.bad_artifacts import BAD
from train.errors import TrainingError
from train.promotion.publish import TrainOptions, publish, train_and_publish
from train.sales import market
from train.sales import rows as data
from train.sales.tables import COLUMNS


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """Made-up sales in a file of their own, whose name a terminal must not take for markup."""
    path = tmp_path / "sales[final]:house:.csv"
    columns = market.synthetic_sales(1_500, seed=0)
    rows = [",".join(map(str, row)) for row in zip(*(columns[name].tolist() for name in COLUMNS), strict=True)]
    path.write_text("\n".join([",".join(COLUMNS), "0,3,2,10,5,400000", *rows]))
    return path


def order(path: Path | None = None, version: str | None = None) -> TrainOptions:
    return TrainOptions(path, None, "gradient-boosting", version, deploy=False, seed=0)


def another(artifact: Artifact, version: str, salt: str) -> Artifact:
    """The same artifact as another version with another salt."""
    split = artifact.manifest.split.model_copy(update={"salt": salt})
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version, "split": split}))


def test_a_folder_that_cannot_be_written_is_noticed_before_the_training(tmp_path: Path, sales: Path) -> None:
    (tmp_path / "file").touch()
    told = io.StringIO()
    with pytest.raises(NotWritableError, match=r"artifacts cannot be written: no permission to write in .*/file$"):
        train_and_publish(Store(tmp_path / "file" / "artifacts"), order(sales), Console(file=told))
    assert told.getvalue() == ""


def test_a_training_takes_the_salt_over(store: Store, published: Artifact, sales: Path) -> None:
    store.publish(another(published, "v1.1.0", "of its own"))
    manifest = train_and_publish(store, order(sales), Console(file=io.StringIO())).manifest
    assert (manifest.version, manifest.split.salt) == ("v1.2.0", "of its own")
    assert store.read("v1.2.0").manifest == manifest


def test_rows_refusals_and_names_are_told_as_they_are(
    tmp_path: Path, sales: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_and_publish(Store(tmp_path / "made[/final]"), order(sales))
    told = capsys.readouterr().out
    assert told.startswith(
        "sales[final]:house:.csv: 1,500 rows accepted, 1 refused\n  refused: square_feet not above 0: 1 row (line 2)\n"
    )
    assert f"published v1.0.0 in {tmp_path}/made[/final]/v1.0.0 (" in told
    assert "synthetic" not in told.lower()


@pytest.mark.parametrize("version", ["banana", "1.0.0", "v1", "../v1.0.0", "v01.0.0"])
def test_what_is_no_version_is_refused_before_the_data_is_read(tmp_path: Path, version: str) -> None:
    with pytest.raises(TrainingError) as refused:
        train_and_publish(Store(tmp_path / "artifacts"), order(tmp_path / "missing.csv", version))
    assert str(refused.value) == f"{version!r} is not a version; versions are written v1.2.3"
    assert list(tmp_path.iterdir()) == []


def test_a_published_version_is_refused_before_the_data_is_read(store: Store, tmp_path: Path) -> None:
    with pytest.raises(VersionExistsError) as refused:
        train_and_publish(store, order(tmp_path / "missing.csv", "v1.0.0"))
    assert str(refused.value) == (
        f"v1.0.0 is published already in {store.root}; versions never change, name another with --version"
    )


# What is damaged on the disk, or is no manifest, is nothing that could be handed over.
NO_ARTIFACT: Final = {"truncated", "bit flips", "empty", "wrong digest", "wrong manifest", "missing file", "huge graph"}
NO_MANIFEST: Final = {"features in another order"}


@pytest.mark.parametrize("name", sorted(BAD.keys() - NO_ARTIFACT - NO_MANIFEST))
def test_no_bad_one_is_published(published: Artifact, tmp_path: Path, name: str) -> None:
    files = BAD[name].make(published, tmp_path / "beside")
    assert files.graph is not None
    artifact, store = Artifact(Manifest.parse(files.manifest), files.graph), Store(tmp_path / "artifacts")

    with pytest.raises(DamagedArtifactError) as refused:
        publish(store, artifact, data.synthetic(seed=0, rows=1_500), Console(file=io.StringIO()), load_in_sandbox=load)

    assert BAD[name].reason in str(refused.value)
    assert not store.root.exists()


def test_who_asks_for_nothing_else_has_it_proved_in_a_child_process() -> None:
    assert signature(publish).parameters["load_in_sandbox"].default is load_in_sandbox

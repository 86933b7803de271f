"""A run that is interrupted is continued: the same bytes, each part priced once, and never another run by mistake."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pricing.artifacts.store import Artifact, Store
from pricing.errors import Stays
from score.folder import PartsFolder
from score.plan import Plan, ScoreError
from score.run import Finish
from score.work import Done, Names
from tests.score.scoring import in_this_process, interrupted_after, run
from tests.score.test_score import houses, written

PARTS: Final = 6
ROWS_A_PART: Final = 5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = houses(PARTS * ROWS_A_PART)
    rows[3]["square_feet"] = rows[17]["square_feet"] = 0.0
    return written(tmp_path / "houses.csv", rows)


def interrupt(store: Store, source: Path, out: Path, parts: int = 2, **options: Any) -> None:  # noqa: ANN401
    with pytest.raises(KeyboardInterrupt) as found:
        run(store, source, out, interrupted_after(parts), rows_a_part=ROWS_A_PART, **options)
    assert any(isinstance(note, Stays) and "--resume continues" in note for note in found.value.__notes__)


def noting(finished: list[int]) -> Finish:
    def finish(store: Store, plan: Plan, folder: Path, missing: Sequence[int]) -> Iterator[Done]:
        for done in in_this_process(store, plan, folder, missing):
            finished.append(done.number)
            yield done

    return finish


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_run_that_is_continued_gives_the_same_bytes(ending: str, store: Store, source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"prices.{ending}"
    run(store, source, whole, rows_a_part=ROWS_A_PART)
    interrupt(store, source, out)
    assert not out.exists()
    finished: list[int] = []

    found = run(store, source, out, noting(finished), resume=True)

    assert finished == [2, 3, 4, 5]
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "prices.refused.csv").read_bytes() == (tmp_path / "whole.refused.csv").read_bytes()
    assert (found.rows, found.refused) == (PARTS * ROWS_A_PART - 2, 2)
    assert list(tmp_path.glob("*.parts")) == []


def test_an_interrupted_run_is_not_begun_anew_by_mistake(store: Store, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "prices.csv"
    interrupt(store, source, out)
    with pytest.raises(ScoreError, match=r"prices\.csv\.parts holds an interrupted run; --resume continues it"):
        run(store, source, out)


def test_a_file_of_prices_is_not_replaced_by_mistake(store: Store, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "prices.csv"
    out.write_text("mine")
    for resume in (False, True):
        with pytest.raises(ScoreError, match="exists; choose another name"):
            run(store, source, out, resume=resume)
    assert out.read_text() == "mine"


def test_resume_begins_what_was_never_begun(store: Store, source: Path, tmp_path: Path) -> None:
    assert run(store, source, tmp_path / "prices.csv", resume=True).rows == PARTS * ROWS_A_PART - 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"confidence": 0.5}, "--confidence: it began with 0.9"),
        ({"version": "v1.1.0"}, "--version: it began with v1.0.0"),
        ({"rename": {"id": "name"}}, "--rename"),
        ({"units": {"square_feet": 2.0}}, "--unit"),
    ],
)
def test_a_run_is_continued_with_what_it_began_with(
    options: dict[str, Any], sentence: str, store: Store, source: Path, tmp_path: Path
) -> None:
    published = store.read("v1.0.0")
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    interrupt(store, source, tmp_path / "prices.csv")
    with pytest.raises(ScoreError, match=f"was given something else: {sentence}"):
        run(store, source, tmp_path / "prices.csv", resume=True, **options)


def test_a_run_is_not_continued_with_a_file_that_has_changed(store: Store, source: Path, tmp_path: Path) -> None:
    interrupt(store, source, tmp_path / "prices.csv")
    source.write_bytes(source.read_bytes() + b"\n")
    with pytest.raises(ScoreError, match="the files have changed"):
        run(store, source, tmp_path / "prices.csv", resume=True)


def test_the_version_of_the_beginning_is_kept_after_a_promotion(
    store: Store, published: Artifact, source: Path, tmp_path: Path
) -> None:
    interrupt(store, source, tmp_path / "prices.csv")
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    store.deploy("v1.1.0")

    assert run(store, source, tmp_path / "prices.csv", resume=True).version == "v1.0.0"


def test_a_part_whose_files_are_not_whole_is_priced_again(store: Store, source: Path, tmp_path: Path) -> None:
    run(store, source, tmp_path / "whole.csv", rows_a_part=ROWS_A_PART)
    interrupt(store, source, tmp_path / "prices.csv", 4)
    root = tmp_path / "prices.csv.parts"
    os.truncate(Names.of(root, 0).prices, 10)
    Names.of(root, 1).record.write_text("{")
    Names.of(root, 2).refused.unlink()
    finished: list[int] = []

    run(store, source, tmp_path / "prices.csv", noting(finished), resume=True)

    assert finished == [0, 1, 2, 4, 5]
    assert (tmp_path / "prices.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_parts_of_a_folder_without_a_plan_are_not_used(store: Store, source: Path, tmp_path: Path) -> None:
    interrupt(store, source, tmp_path / "prices.csv", confidence=0.5)
    (tmp_path / "prices.csv.parts" / "plan.json").unlink()
    finished: list[int] = []

    run(store, source, tmp_path / "prices.csv", noting(finished), resume=True, rows_a_part=ROWS_A_PART)

    assert finished == list(range(PARTS))


def test_one_process_at_a_time_works_on_a_folder(store: Store, source: Path, tmp_path: Path) -> None:
    interrupt(store, source, tmp_path / "prices.csv")
    with PartsFolder(tmp_path / "prices.csv").held(), pytest.raises(ScoreError, match="another process works on it"):
        run(store, source, tmp_path / "prices.csv", resume=True)


def test_nothing_appears_while_a_part_is_missing(store: Store, source: Path, tmp_path: Path) -> None:
    def finish(store: Store, plan: Plan, folder: Path, missing: Sequence[int]) -> Iterator[Done]:
        yield from in_this_process(store, plan, folder, missing[:-1])

    with pytest.raises(ScoreError, match="1 of 6 parts are not finished"):
        run(store, source, tmp_path / "prices.csv", finish, rows_a_part=ROWS_A_PART)
    assert not (tmp_path / "prices.csv").exists()


def test_a_plan_that_cannot_be_read_is_named(store: Store, source: Path, tmp_path: Path) -> None:
    interrupt(store, source, tmp_path / "prices.csv")
    (tmp_path / "prices.csv.parts" / "plan.json").write_text("{}")
    with pytest.raises(ScoreError, match=r"plan\.json: .*remove the folder to start anew"):
        run(store, source, tmp_path / "prices.csv", resume=True)

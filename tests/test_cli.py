"""The commands as a person types them: what they print, where, and with which exit code."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import orjson
import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.context import UNCONFIRMED
from cli.endings import CHANGED
from cli.training import NOT_BETTER
from pricing.artifacts.store import Artifact, Store
from service.access.api_keys import KeySnapshot, KeyStore
from tests.gunicorn_process import ROOT
from train.sales import market
from train.sales.tables import COLUMNS

HEADER = ",".join(COLUMNS)
ROW = "2000,3,2,10,5,400000"
TOO_FEW = "at least 200 are needed: bring sales of 1,200 houses"
TOO_WIDE = "1 of 1 rows are refused, more than 5%: the row has 7 cells, expected 6: 1 row (line 2)"

Run = Callable[..., Result]


def invoke(artifacts: Path, *arguments: str | Path) -> Result:
    places = ["--artifacts", str(artifacts), "--run", str(artifacts.with_name("run"))]
    places += ["--journal", str(artifacts.with_name("journal"))]
    return CliRunner().invoke(main, [*places, *map(str, arguments)])


@pytest.fixture
def run(store: Store) -> Run:
    """A command on the folder in which v1.0.0 is published and deployed."""
    return lambda *arguments: invoke(store.root, *arguments)


@pytest.fixture
def two(store: Store, published: Artifact) -> Store:
    """v1.1.0 is published too, and not deployed."""
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    return store


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def error_of(result: Result) -> str:
    """The one sentence on stderr of a command that ended with exit code 1."""
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def unconfirmed(store: Store) -> str:
    """What is said where no worker runs."""
    return f"unconfirmed: no worker runs in {store.root.with_name('run')}; those that start will serve it"


class TestTraining:
    class Twice(NamedTuple):
        store: Store
        first: Result
        second: Result

    @pytest.fixture(scope="module")
    @staticmethod
    def twice(tmp_path_factory: pytest.TempPathFactory) -> "TestTraining.Twice":
        root = tmp_path_factory.mktemp("trained") / "artifacts"
        first, second = (invoke(root, "train", "--family", "gradient-boosting") for _ in range(2))
        return TestTraining.Twice(Store(root), first, second)

    def test_the_first_version_is_deployed(self, twice: Twice) -> None:
        assert twice.first.exit_code == 0
        assert twice.first.stdout.endswith(f"v1.0.0 is deployed as generation 1, {unconfirmed(twice.store)}\n")
        assert twice.store.deployment().champion == "v1.0.0"

    def test_the_next_one_is_published_and_not_deployed_and_says_so(self, twice: Twice) -> None:
        assert twice.second.exit_code == 0
        assert twice.second.stdout.endswith("not deployed: `appraiser promote v1.1.0` does it\n")
        assert twice.store.versions() == ["v1.0.0", "v1.1.0"]
        assert twice.store.deployment().generation == 1

    def test_what_is_being_done_and_where_it_went_is_told(self, twice: Twice) -> None:
        size = twice.store.read("v1.0.0").manifest.graph.size
        for line in (
            "  cross-validating gradient-boosting on 9,",
            "  fitting gradient-boosting on 9,",
            "  converting to ONNX\n",
            "  certifying parity of ONNX with scikit-learn\n",
            "  measuring on the test rows\n",
            f"published v1.0.0 in {twice.store.root}/v1.0.0 ({size:,} bytes of ONNX)\n",
        ):
            assert f"\n{line}" in twice.first.stdout

    def test_the_figures_are_those_of_the_manifest(self, twice: Twice) -> None:
        manifest, told = twice.store.read("v1.0.0").manifest, twice.first.stdout
        for name, scores in (("train", manifest.metrics.train), ("test", manifest.metrics.test)):
            (line,) = (line for line in told.splitlines() if f" {name} {scores.rows:,} " in line)
            assert [cell.strip() for cell in line.split("│")[2:-1]] == [
                f"{scores.r2:.3f}",
                f"{scores.mape:.2%}",
                f"{scores.median_error:.2%}",
            ]
        for interval in manifest.metrics.intervals:
            assert (
                f"interval at {interval.level:.0%}: contains {interval.coverage:.1%} of the test prices, "
                f"median width {interval.median_width:.0%} of the price\n"
            ) in told
        parity = manifest.parity
        assert (
            f"parity certified: ONNX is within {parity.test_ppm:.2f} ppm of scikit-learn on {parity.test_rows:,} test "
            f"rows and {parity.threshold_ppm:.2f} ppm on {parity.threshold_rows:,} threshold rows (limit 5)\n"
        ) in told

    def test_figures_of_the_synthetic_market_say_that_they_are(self, twice: Twice) -> None:
        assert twice.first.stdout.startswith(
            "synthetic market (made up, not real sales): 12,000 rows accepted, 0 refused\n"
        )
        title = twice.first.stdout.partition("v1.0.0, gradient-boosting")[2].partition("┏")[0]
        assert " ".join(title.split()) == "on the SYNTHETIC market: these figures do not describe real houses"
        assert twice.store.read("v1.0.0").manifest.data.synthetic
        listed = invoke(twice.store.root, "models").stdout.splitlines()
        assert [line.endswith("  synthetic market (made up, not real sales)") for line in listed] == [True, True, False]

    def test_the_same_seed_makes_the_same_graph(self, twice: Twice) -> None:
        first, second = (twice.store.read(version) for version in twice.store.versions())
        assert first.graph == second.graph

    def test_deploy_version_and_seed_do_what_they_say(self, two: Store) -> None:
        options = ["--family", "gradient-boosting", "--version", "v3.0.0", "--deploy", "--seed", "7"]
        result = invoke(two.root, "train", *options)
        assert result.stdout.endswith(f"v3.0.0 is deployed as generation 2, {unconfirmed(two)}\n")
        assert (two.deployment().champion, two.deployment().previous) == ("v3.0.0", "v1.0.0")
        assert two.read("v3.0.0").manifest.seed == 7

    def test_without_a_family_both_compete(self, tmp_path: Path) -> None:
        told = invoke(tmp_path / "artifacts", "train").stdout
        assert "cross-validated gradient-boosting: " in told
        assert "cross-validated random-forest: " in told

    def test_a_published_version_is_refused_before_training(self, run: Run, store: Store) -> None:
        result = run("train", "--version", "v1.0.0")
        assert error_of(result) == (
            f"v1.0.0 is published already in {store.root}; versions never change, name another with --version"
        )
        assert result.stdout == ""

    def test_a_name_that_is_no_version_is_refused_before_training(self, run: Run) -> None:
        result = run("train", "--version", "banana")
        assert error_of(result) == "'banana' is not a version; versions are written v1.2.3"
        assert result.stdout == ""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--family", "linear"], "Invalid value for '--family': 'linear' is not one of"),
            (["--seed", "-1"], "Invalid value for '--seed': -1 is not in the range 0<=x<=4294967295."),
            (["--seed", "many"], "Invalid value for '--seed': 'many' is not a valid integer range."),
        ],
    )
    def test_options_that_make_no_sense_are_refused_by_name(self, run: Run, options: list[str], message: str) -> None:
        result = run("train", *options)
        assert result.exit_code == 2
        assert message in result.stderr

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("sales.txt", b"x", "{path}: expected .csv, .parquet, .jsonl, .ndjson or .duckdb, got .txt"),
            ("sales.csv", b"", "{path}: the file is empty"),
            ("sales.csv", f"{HEADER}\n".encode(), "sales.csv: no rows"),
            (
                "sales.csv",
                HEADER.replace("price", "cost").encode(),
                (
                    f"{{path}}: missing column price; expected {', '.join(COLUMNS)}; found {', '.join(COLUMNS[:-1])}, "
                    "cost; `--rename NAME=price` renames a column"
                ),
            ),
            (
                "sales.parquet",
                f"{HEADER}\n{ROW}\n".encode(),
                "{path}: the content does not match the file name: it is not Parquet",
            ),
            ("sales.csv", b"PAR1", "{path}: the content does not match the file name: it is not CSV text"),
            (
                "sales.csv",
                f"{HEADER}\n{ROW}\n{ROW.replace('3', '3.5')}\n".encode(),
                "sales.csv: 1 of 2 rows are refused, more than 5%: bedrooms not a whole number: 1 row (line 3)",
            ),
            (
                "sales.csv",
                f"{HEADER}\n{ROW}\n".encode(),
                f"sales.csv: 1 accepted rows leave 0 houses for testing, {TOO_FEW}",
            ),
            (
                "sales.csv",
                f"{HEADER}\n{ROW},9\n".encode(),
                f"sales.csv: {TOO_WIDE}",
            ),
        ],
    )
    def test_a_file_that_cannot_be_used_ends_in_one_sentence_and_nothing_is_written(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        result = invoke(tmp_path / "artifacts", "train", "--data", path)
        assert error_of(result) == message.format(path=path)
        assert list(tmp_path.iterdir()) == [path]

    def test_a_file_that_is_not_there_ends_in_one_sentence_and_nothing_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "sales.csv"
        result = invoke(tmp_path / "artifacts", "train", "--data", path)
        assert error_of(result) == f"{path}: cannot be read: No such file or directory"
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_training_leaves_a_store_as_it_was(self, run: Run, store: Store, tmp_path: Path) -> None:
        before = sorted(store.root.rglob("*"))
        path = tmp_path / "sales.csv"
        path.write_text(f"{HEADER}\n{ROW}\n")
        error_of(run("train", "--data", path))
        assert sorted(store.root.rglob("*")) == before


class TestModels:
    def test_says_what_is_published_and_what_is_deployed(self, two: Store, published: Artifact) -> None:
        test, created = published.manifest.metrics.test, published.manifest.created_at
        rest = (
            f"gradient-boosting {created:%Y-%m-%d %H:%M} UTC  test MAPE {test.mape:.1%}  R² {test.r2:.3f}  "
            "synthetic market (made up, not real sales)"
        )
        assert invoke(two.root, "models").stdout == (
            f"v1.0.0     champion 100 %  {rest}\nv1.1.0                     {rest}\n"
            f"generation 1 is deployed; no worker runs in {two.root.with_name('run')}\n"
        )

    def test_says_when_nothing_is_published(self, tmp_path: Path) -> None:
        result = invoke(tmp_path / "artifacts", "models")
        assert (result.exit_code, result.stdout) == (
            0,
            f"no version is published in {tmp_path}/artifacts; `appraiser train` makes a first version\n",
        )
        assert list(tmp_path.iterdir()) == []

    def test_says_when_nothing_is_deployed(self, tmp_path: Path, published: Artifact) -> None:
        Store(tmp_path).publish(published)
        lines = invoke(tmp_path, "models").stdout.splitlines()
        assert lines[0].startswith("v1.0.0     " + 16 * " " + "gradient-boosting ")
        assert lines[1] == "no version is deployed; `appraiser promote VERSION` deploys one"

    def test_says_which_version_is_damaged(self, two: Store) -> None:
        flip_a_bit(two.root / "v1.0.0" / "model.onnx")
        first, second, _ = invoke(two.root, "models").stdout.splitlines()
        assert first.startswith("v1.0.0     champion 100 %  damaged: observed sha256 ")
        assert second.startswith("v1.1.0     " + 16 * " " + "gradient-boosting ")


class TestVerify:
    def test_a_version_as_it_was_published(self, run: Run) -> None:
        result = run("verify", "v1.0.0")
        assert (result.exit_code, result.stdout) == (0, "v1.0.0: digest, manifest and 5 examples are as published\n")

    def test_a_flipped_bit_of_the_graph(self, run: Run, store: Store) -> None:
        flip_a_bit(store.root / "v1.0.0" / "model.onnx")
        assert "of v1.0.0/model.onnx (" in error_of(run("verify", "v1.0.0"))

    def test_a_deployed_manifest_that_was_changed(self, run: Run, store: Store) -> None:
        path = store.root / "v1.0.0" / "manifest.json"
        path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"seed": 1}))
        assert "of v1.0.0/manifest.json (" in error_of(run("verify", "v1.0.0"))

    def test_examples_that_the_graph_does_not_answer(self, run: Run, store: Store, published: Artifact) -> None:
        wrong = published.manifest.examples[0].model_copy(update={"spread": 1.0})
        manifest = published.manifest.model_copy(update={"version": "v2.0.0", "examples": (wrong,)})
        store.publish(published._replace(manifest=manifest))
        assert error_of(run("verify", "v2.0.0")).startswith("v2.0.0: example 0: observed [")

    def test_an_unknown_version(self, run: Run) -> None:
        assert error_of(run("verify", "v9.0.0")) == "v9.0.0 was not found; published: v1.0.0"


class TestPromote:
    def test_deploys_under_the_next_generation(self, two: Store) -> None:
        result = invoke(two.root, "promote", "v1.1.0")
        assert result.exit_code == UNCONFIRMED
        assert result.stdout == f"v1.1.0 is deployed as generation 2, {unconfirmed(two)}\n"
        assert two.deployment().champion == "v1.1.0"

    def test_an_unknown_version_leaves_the_pointer_as_it_was(self, run: Run, store: Store) -> None:
        before = (store.root / "deployment.json").read_bytes()
        assert error_of(run("promote", "v9.0.0")) == "v9.0.0 was not found; published: v1.0.0"
        assert (store.root / "deployment.json").read_bytes() == before

    def test_a_damaged_version_leaves_the_pointer_as_it_was(self, two: Store) -> None:
        before = (two.root / "deployment.json").read_bytes()
        flip_a_bit(two.root / "v1.1.0" / "model.onnx")
        assert "of v1.1.0/model.onnx (" in error_of(invoke(two.root, "promote", "v1.1.0"))
        assert (two.root / "deployment.json").read_bytes() == before

    def test_a_version_that_does_not_answer_its_examples_leaves_the_pointer_as_it_was(
        self, run: Run, store: Store, published: Artifact
    ) -> None:
        before = (store.root / "deployment.json").read_bytes()
        wrong = published.manifest.examples[0].model_copy(update={"log_price": 1.0})
        manifest = published.manifest.model_copy(update={"version": "v2.0.0", "examples": (wrong,)})
        store.publish(published._replace(manifest=manifest))
        assert error_of(run("promote", "v2.0.0")).startswith("v2.0.0: example 0: ")
        assert (store.root / "deployment.json").read_bytes() == before

    def test_a_changed_manifest_is_not_made_right_by_promoting_it_again(self, run: Run, store: Store) -> None:
        before = (store.root / "deployment.json").read_bytes()
        path = store.root / "v1.0.0" / "manifest.json"
        path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"seed": 1}))
        assert "of v1.0.0/manifest.json (" in error_of(run("promote", "v1.0.0"))
        assert (store.root / "deployment.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(store: Store, tmp_path: Path) -> None:
    (store.root / ".lock").unlink()
    (store.root / ".lock").mkdir()  # nobody can open that for writing, root included
    assert (
        error_of(invoke(store.root, "promote", "v1.0.0")) == f"{tmp_path}/artifacts cannot be written: Is a directory"
    )


def test_serve_outside_of_the_repository_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert error_of(CliRunner().invoke(main, ["serve"])) == (
        f"gunicorn.conf.py was not found in {tmp_path}; run this command in the folder that contains it"
    )


def test_models_shows_no_figures_of_a_manifest_that_was_changed(store: Store) -> None:
    path = store.root / "v1.0.0" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"mape": 0.', b'"mape": 0.0'))
    assert invoke(store.root, "models").stdout.startswith("v1.0.0     champion 100 %  damaged: observed sha256 ")


def test_models_lists_what_is_published_also_when_the_deployment_cannot_be_read(store: Store) -> None:
    (store.root / "deployment.json").write_bytes(b"")
    first, second = invoke(store.root, "models").stdout.splitlines()
    assert first.startswith("v1.0.0     " + 16 * " " + "gradient-boosting ")
    assert second.endswith("; remove the file and promote a version")


def test_a_deployment_that_cannot_be_read_stops_a_training_before_it_publishes(store: Store) -> None:
    (store.root / "deployment.json").write_bytes(b"")
    assert error_of(invoke(store.root, "train")).startswith("deployment.json: whole file: Invalid JSON")
    assert store.versions() == ["v1.0.0"]


def test_serve_serves_the_artifacts_that_it_was_given(store: Store) -> None:
    code = f"from cli import main; main(['--artifacts', {str(store.root)!r}, 'serve'])"
    places = {f"APPRAISER_{name.upper()}": str(store.root.with_name(name)) for name in ("run", "journal")}
    environment = os.environ | {"PORT": "0", "WEB_CONCURRENCY": "1"} | places
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            log = iter(service.stdout or ())
            port = next(found[1] for line in log if (found := re.search(r"Listening at: \S+:(\d+)", line)))
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).json()["version"] == "v1.0.0"
        finally:
            service.terminate()


class TestAsAProcess:
    def run(
        self, *arguments: str, missing: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """The command in an interpreter of its own, in which some packages are not installed."""
        code = f"import sys; sys.modules.update(dict.fromkeys({missing})); from cli import main; main({arguments})"
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
        )

    def test_an_error_is_one_line_on_stderr_and_exit_code_1(self, store: Store) -> None:
        found = self.run("verify", "v9.0.0", APPRAISER_ARTIFACTS=str(store.root))
        assert (found.returncode, found.stdout, found.stderr) == (
            1,
            "",
            "Error: v9.0.0 was not found; published: v1.0.0\n",
        )

    def test_a_host_without_the_libraries_of_training_can_look_verify_and_promote(self, store: Store) -> None:
        missing = ("sklearn", "skl2onnx", "onnx", "duckdb", "rich", "flask", "gunicorn")
        places = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_RUN": str(store.root.with_name("run"))}
        for command, code in ((["models"], 0), (["verify", "v1.0.0"], 0), (["promote", "v1.0.0"], UNCONFIRMED)):
            found = self.run(*command, missing=missing, **places)
            assert (found.returncode, found.stderr) == (code, "")

    def test_a_host_without_the_libraries_of_training_says_what_to_install(self, store: Store) -> None:
        found = self.run("train", missing=("duckdb",), APPRAISER_ARTIFACTS=str(store.root))
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr == (
            "Error: training needs duckdb: install requirements-train.txt, or use the image for training\n"
        )


class TestSplitAndRollback:
    def test_a_split_is_deployed_and_listed(self, two: Store) -> None:
        result = invoke(two.root, "split", "v1.0.0=90", "v1.1.0=10")
        assert result.exit_code == UNCONFIRMED
        assert result.stdout.startswith("v1.0.0=90 v1.1.0=10 is deployed as generation 2, unconfirmed: ")
        assert two.deployment().arms == {"v1.0.0": 90, "v1.1.0": 10}
        first, second, _ = invoke(two.root, "models").stdout.splitlines()
        assert first.startswith("v1.0.0     champion 90 %   gradient-boosting ")
        assert second.startswith("v1.1.0     challenger 10 % gradient-boosting ")

    @pytest.mark.parametrize(
        ("weights", "sentence"),
        [
            (["v1.0.0=90", "v1.1.0=20"], "weights are whole percent, at least 1 each, and add up to 100; got "),
            (["v1.0.0=100", "v1.1.0=0"], "weights are whole percent, at least 1 each, and add up to 100; got "),
            (["v1.1.0=100"], "the champion v1.0.0 must be one of the arms; got v1.1.0=100"),
            (["v1.0.0=90", "v9.0.0=10"], "v9.0.0 was not found; published: v1.0.0, v1.1.0"),
        ],
    )
    def test_a_split_that_is_none_is_refused_and_nothing_changes(
        self, two: Store, weights: list[str], sentence: str
    ) -> None:
        assert error_of(invoke(two.root, "split", *weights)).startswith(sentence)
        assert two.deployment().generation == 1

    @pytest.mark.parametrize("word", ["v1.0.0", "v1.0.0=", "v1.0.0=ten", "v1.0.0=-5", "1.0.0=90", "=90", "v1.0.0=9.5"])
    def test_what_is_no_weight_is_a_wrong_command_line(self, two: Store, word: str) -> None:
        result = invoke(two.root, "split", word)
        assert result.exit_code == 2
        assert f"got '{word}'" in result.stderr

    def test_a_version_that_is_weighed_twice_is_a_wrong_command_line(self, two: Store) -> None:
        assert invoke(two.root, "split", "v1.0.0=50", "v1.0.0=50").exit_code == 2

    def test_a_rollback_deploys_the_previous_champion(self, two: Store) -> None:
        invoke(two.root, "promote", "v1.1.0")
        result = invoke(two.root, "rollback")
        assert result.exit_code == UNCONFIRMED
        assert result.stdout.startswith("v1.0.0 is deployed as generation 3, unconfirmed: ")

    def test_without_a_previous_champion_there_is_nothing_to_roll_back_to(self, run: Run) -> None:
        assert error_of(run("rollback")).startswith("no previous version is recorded")

    def test_a_rollback_to_damaged_files_changes_nothing(self, two: Store) -> None:
        invoke(two.root, "promote", "v1.1.0")
        flip_a_bit(two.root / "v1.0.0" / "model.onnx")
        assert "of v1.0.0/model.onnx (" in error_of(invoke(two.root, "rollback"))
        assert two.deployment().champion == "v1.1.0"

    def test_a_rollback_from_damaged_files_needs_them_not(self, two: Store) -> None:
        invoke(two.root, "promote", "v1.1.0")
        flip_a_bit(two.root / "v1.1.0" / "model.onnx")
        assert invoke(two.root, "rollback").exit_code == UNCONFIRMED
        assert two.deployment().champion == "v1.0.0"

    def test_a_split_of_nothing(self, tmp_path: Path) -> None:
        sentence = error_of(invoke(tmp_path / "artifacts", "split", "v1.0.0=100"))
        assert sentence == "no version is deployed; `appraiser promote VERSION` deploys the champion of a split"
        assert list(tmp_path.iterdir()) == []


class TestRetrain:
    def sales(self, tmp_path: Path, rows: int) -> Path:
        columns = market.synthetic_sales(12_000, seed=0)
        lines = zip(*(columns[name][:rows].tolist() for name in COLUMNS), strict=True)
        path = tmp_path / f"{rows}.csv"
        path.write_text("\n".join([HEADER, *(",".join(map(str, line)) for line in lines)]))
        return path

    def test_cron_reads_what_came_of_it_from_the_exit_code(self, tmp_path: Path) -> None:
        root, boosting = tmp_path / "artifacts", ("--family", "gradient-boosting")
        few, many = self.sales(tmp_path, 1_500), self.sales(tmp_path, 12_000)
        assert invoke(root, "train", "--data", few, *boosting).exit_code == 0
        store = Store(root)

        judged = invoke(root, "retrain", "--data", many, *boosting, "--dry-run")
        assert (judged.exit_code, store.versions()) == (0, ["v1.0.0"])

        better = invoke(root, "retrain", "--data", many, *boosting)
        assert (better.exit_code, store.deployment().champion) == (UNCONFIRMED, "v1.1.0")
        assert "v1.1.0 is deployed as generation 2, unconfirmed: " in better.stdout

        not_better = invoke(root, "retrain", "--data", many, *boosting, "--keep", "2")
        assert (not_better.exit_code, store.deployment().champion) == (NOT_BETTER, "v1.1.0")
        assert "  against it: the gain is 0.00% (0.00% to 0.00%), at least 1% is worth a change" in not_better.stdout
        assert store.versions() == ["v1.0.0", "v1.1.0", "v1.2.0"]  # the oldest is the previous one, which is kept

        again = invoke(root, "retrain", "--data", many, *boosting, "--keep", "2", "--dry-run")
        assert again.exit_code == NOT_BETTER

    def test_a_champion_that_came_while_the_challenger_was_trained_stays(self, two: Store, tmp_path: Path) -> None:
        """Nobody has compared these two."""
        many = self.sales(tmp_path, 6_000)
        program = ["-c", "from cli import main; main()", "--artifacts", two.root, "--run", two.root.with_name("run")]
        options = ["retrain", "--data", many, "--family", "gradient-boosting"]
        with subprocess.Popen(
            [sys.executable, *map(str, [*program, *options])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as retraining:
            assert retraining.stdout is not None
            assert (
                "rows accepted" in retraining.stdout.readline()
            )  # so it has the champion, and will train for a second
            two.deploy("v1.1.0")
            told, error = retraining.communicate()
        assert retraining.returncode == CHANGED, told
        assert error == (
            "Error: v1.2.0 was judged against v1.0.0, but v1.1.0 is the champion now; v1.2.0 is not deployed; "
            "v1.2.0 is published\n"
        )
        assert two.deployment().champion == "v1.1.0"

    def test_a_failure_is_exit_code_1_and_changes_nothing(self, run: Run, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "sales.csv"
        path.write_text(f"{HEADER}\n{ROW}\n")
        assert TOO_FEW in error_of(run("retrain", "--data", path))
        assert store.versions() == ["v1.0.0"]

    def test_a_query_without_data_is_a_wrong_command_line(self, run: Run) -> None:
        result = run("train", "--query", "select 1")
        assert result.exit_code == 2
        assert "--query needs --data with a .duckdb file" in result.stderr

    def test_without_data_it_is_a_wrong_command_line(self, run: Run) -> None:
        assert run("retrain").exit_code == 2


def test_old_versions_are_removed_beyond_what_is_kept(store: Store, published: Artifact, tmp_path: Path) -> None:
    for minor in range(1, 4):
        manifest = published.manifest.model_copy(update={"version": f"v1.{minor}.0"})
        store.publish(published._replace(manifest=manifest))
    sales = TestRetrain().sales(tmp_path, 1_500)
    journal = tmp_path / "journal"
    (journal / ".versions").mkdir(parents=True)  # it is kept, and names no version
    train = ("--journal", journal, "train", "--data", sales, "--family", "gradient-boosting")

    result = invoke(store.root, *train, "--keep", "3")

    assert result.exit_code == 0
    assert result.stdout.endswith("removed v1.1.0: 3 versions are kept\n")
    assert store.versions() == ["v1.0.0", "v1.2.0", "v1.3.0", "v1.4.0"]  # v1.0.0 is deployed

    older = ("--version", "v0.1.0", "--keep", "1")
    result = invoke(store.root, *train, *older)
    assert store.versions() == ["v0.1.0", "v1.0.0", "v1.4.0"]  # what was just published is spared


class TestKeys:
    def test_a_key_is_printed_once_alone_on_stdout_and_listed_by_its_id(self, run: Run, store: Store) -> None:
        made = run("keys", "create", "the web shop", "--scope", "predict", "--scope", "read", "--expires", "90d")

        (key,) = KeyStore(store.root).stored()
        end = f"{key.expires_at:%Y-%m-%d %H:%M} UTC"
        assert made.exit_code == 0
        assert made.stderr == f"{key.id} of the web shop: predict, read, until {end}; this is shown only now:\n"
        assert KeySnapshot([key]).authenticate(made.stdout.removesuffix("\n")) is not None
        assert run("keys", "list").output == f"{key.id}  active   {end}  predict,read          the web shop\n"
        assert key.expires_at == key.created_at + timedelta(days=90)
        assert key.sha256 not in made.output

    def test_a_key_lasts_a_year_unless_it_is_told_otherwise(self, run: Run, store: Store) -> None:
        run("keys", "create", "a", "--scope", "read")
        forever = run("keys", "create", "b", "--scope", "admin", "--expires", "never")

        year, never = KeyStore(store.root).stored()
        assert year.expires_at == year.created_at + timedelta(days=365)
        assert never.expires_at is None
        assert "admin, for good; this is shown only now:" in forever.stderr
        assert run("keys", "list").output.splitlines()[1] == f"{never.id}  active   never{' ' * 17}admin{' ' * 17}b"

    def test_a_key_that_is_rotated_goes_on_for_a_day_and_a_revoked_one_not_at_all(self, run: Run, store: Store) -> None:
        run("keys", "create", "a", "--scope", "read")
        (old,) = KeyStore(store.root).stored()
        rotated = run("keys", "rotate", old.id)
        old, new = KeyStore(store.root).stored()

        assert old.expires_at == new.created_at + timedelta(days=1)
        assert KeySnapshot([new]).authenticate(rotated.stdout.strip()) is not None
        assert run("keys", "revoke", new.id).output == f"{new.id} of a is revoked\n"
        assert [line.split()[1] for line in run("keys", "list").output.splitlines()] == ["active", "revoked"]
        assert error_of(run("keys", "rotate", new.id)) == f"the key {new.id} is revoked; create another"
        assert error_of(run("keys", "revoke", "nobody")).startswith("key 'nobody' was not found")

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["a"], "Missing option '--scope'"),
            (["a", "--scope", "root"], "'root' is not one of 'predict', 'read', 'metrics', 'admin'"),
            (["a", "--scope", "read", "--expires", "90"], "as in 30m, 12h or 90d, or never; got '90'"),
            (["a", "--scope", "read", "--expires", "0d"], "as in 30m, 12h or 90d, or never; got '0d'"),
            (["", "--scope", "read"], "expected 1 to 100 printable characters, got ''"),
            (["a\nb", "--scope", "read"], "expected 1 to 100 printable characters, got 'a\\nb'"),
        ],
    )
    def test_a_wrong_command_line_makes_no_key(self, run: Run, store: Store, arguments: list[str], told: str) -> None:
        result = run("keys", "create", *arguments)

        assert (result.exit_code, KeyStore(store.root).stored()) == (2, ())
        assert told in " ".join(result.stderr.split())

"""`appraiser score`: in processes, with what it prints, and what is known of it without the libraries of training."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson
from click.testing import CliRunner, Result
from rich.console import Console

from cli import main
from cli.endings import CHANGED
from pricing.artifacts.store import Store
from score.progress import progress
from tests.score.scoring import answers, in_this_process, priced, run
from tests.score.test_score import houses, written
from tests.waiting import wait_until

APPRAISER: Final = str(Path(sys.executable).with_name("appraiser"))


def command_of(store: Store, file: Path, out: Path) -> list[str]:
    return [APPRAISER, "--artifacts", str(store.root), "score", str(file), "--out", str(out), "--rows-per-part", "1"]


def score(store: Store, *arguments: Path | str) -> Result:
    return CliRunner().invoke(main, ["--artifacts", str(store.root), "score", *map(str, arguments)])


def test_prices_come_from_processes(store: Store, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = houses(20)
    file = written(tmp_path / "houses.csv", [*rows, {**rows[0], "age_years": -1}])
    out = tmp_path / "prices.csv"

    result = score(store, file, "--out", out, "--rows-per-part", "3")

    assert result.output == (
        f"{out}: 20 rows with prices of v1.0.0\n"
        f"{tmp_path / 'prices.refused.csv'}: 1 refused row: age_years: below 0 (1)\n"
    )
    assert [(200, price) for price in priced(out)] == answers(store, rows)


def test_json_holds_what_was_written(store: Store, tmp_path: Path) -> None:
    file, out = written(tmp_path / "houses.csv", houses(2)), tmp_path / "prices.parquet"
    expected = {"out": str(out), "version": "v1.0.0", "rows": 2, "refused": 0, "refused_file": None, "reasons": {}}

    assert orjson.loads(score(store, file, "--out", out, "--json").stdout) == expected


def test_rename_and_unit_are_those_of_training(store: Store, tmp_path: Path) -> None:
    rows = [{"m2" if name == "square_feet" else name: value for name, value in row.items()} for row in houses(2)]
    file = written(tmp_path / "houses.csv", rows)
    options = ("--rename", "m2=square_feet", "--unit", "square_feet=m2,distance_to_city=km")

    assert score(store, file, "--out", tmp_path / "prices.csv", *options, "--quiet").exit_code == 0

    run(
        store,
        file,
        tmp_path / "other.csv",
        in_this_process,
        rename={"m2": "square_feet"},
        units={"square_feet": 10.763910416709722, "distance_to_city": 0.621371192237334},
    )
    assert (tmp_path / "prices.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()


def test_a_run_that_is_interrupted_names_what_is_kept(store: Store, tmp_path: Path) -> None:
    file, out = written(tmp_path / "houses.csv", houses(2_000)), tmp_path / "prices.csv"
    command = command_of(store, file, out)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: list((tmp_path / "prices.csv.parts").glob("0*.json")))
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate()

    assert printed == (
        f"Error: interrupted by SIGINT; {out}.parts keeps the finished parts; --resume continues from there\n"
    )
    assert process.returncode == CHANGED
    assert not out.exists()


def test_a_process_that_is_ended_from_outside_costs_no_finished_part(store: Store, tmp_path: Path) -> None:
    file, out = written(tmp_path / "houses.csv", houses(2_000)), tmp_path / "prices.csv"
    command = command_of(store, file, out)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: list((tmp_path / "prices.csv.parts").glob("0*.json")))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8").split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, printed = process.communicate()

    assert "Error: a process that prices parts was ended from outside, or had too little memory; " in printed
    assert process.returncode == CHANGED


def test_a_terminal_shows_rows_per_second_and_the_time_left() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120)
    with progress(console)(1_000_000, 250_000) as advance:
        advance(250_000)
        advance(250_000)

    assert "750,000 of 1,000,000 rows" in shown.getvalue()
    assert "left" in shown.getvalue()


def test_without_a_terminal_or_with_quiet_nothing_is_shown() -> None:
    for is_terminal, is_silent in ((False, False), (True, True)):
        shown = io.StringIO()
        with progress(Console(file=shown, force_terminal=is_terminal), is_silent=is_silent)(10, 0) as advance:
            advance(10)
        assert shown.getvalue() == ""

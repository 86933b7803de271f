"""`appraiser predict`, the completion of shells, and the examples of the help texts."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click
import httpx
import orjson
import pytest
from click.testing import CliRunner, Result

from cli import EXAMPLES, main
from pricing.artifacts.store import Artifact, Store
from service.contract import EXAMPLE_HOUSE

OPTIONS: Final = [text for name, value in EXAMPLE_HOUSE.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def predict(store: Store, *arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["--artifacts", str(store.root), "predict", *arguments], input=stdin)


def answer_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = orjson.loads(result.stdout)
    return answer


@pytest.fixture
def with_columns(knowing: Artifact, tmp_path: Path) -> Store:
    store = Store(tmp_path / "artifacts")
    store.publish(knowing)
    store.deploy("v2.0.0")
    return store


def test_a_house_is_priced_as_by_the_service(store: Store, http: httpx.Client) -> None:
    by_command = answer_of(predict(store, *OPTIONS, "--confidence", "0.5", "--json"))
    by_service = http.post("/predict", params={"confidence": 0.5}, json=EXAMPLE_HOUSE).json()
    del by_service["predicted_at"], by_service["prediction_id"], by_command["predicted_at"]
    assert by_command == by_service


@pytest.mark.parametrize("body", [EXAMPLE_HOUSE, {"houses": [EXAMPLE_HOUSE, EXAMPLE_HOUSE]}])
def test_a_file_has_the_body_of_a_prediction_or_of_a_batch(
    body: dict[str, Any], store: Store, http: httpx.Client, tmp_path: Path
) -> None:
    file = tmp_path / "houses.json"
    file.write_bytes(orjson.dumps(body))
    answer = answer_of(predict(store, str(file), "--json"))
    assert answer == answer_of(predict(store, "-", "--json", stdin=file.read_bytes())) | {
        name: answer[name] for name in answer.keys() & {"predicted_at", "predictions"}
    }
    served = http.post("/predict/batch", json={"houses": [EXAMPLE_HOUSE]}).json()["predictions"][0]["predicted_price"]
    assert [house["predicted_price"] for house in answer.get("predictions", [answer])] == [served] * len(
        body.get("houses", [body])
    )


def test_people_get_a_table(store: Store) -> None:
    answer = answer_of(predict(store, *OPTIONS, "--json"))
    bounds = answer["confidence_interval"]
    lines = predict(store, *OPTIONS).stdout.splitlines()
    assert lines[0].split() == ["house", "price", "lower", "at", "90%", "upper", "at", "90%"]
    assert lines[1].split() == ["1", *(f"{d:,.0f}" for d in (answer["predicted_price"], *bounds.values()))]
    assert lines[2:] == ["US dollars, by v1.0.0"]


def test_a_value_outside_of_the_training_is_a_line_of_its_own(store: Store) -> None:
    result = predict(
        store, "-", stdin=orjson.dumps({"houses": [EXAMPLE_HOUSE, EXAMPLE_HOUSE | {"square_feet": 40_000}]})
    )
    assert result.stdout.splitlines()[-1].startswith("house 2: square_feet 40000 is outside of ")


def test_further_columns_are_given_by_name(with_columns: Store) -> None:
    whole = answer_of(predict(with_columns, *OPTIONS, "--column", "zip_code=98103,heating=gas,latitude=47.5", "--json"))
    some = answer_of(predict(with_columns, *OPTIONS, "--column", "zip_code=98103", "--json"))
    assert (whole["not_given"], some["not_given"]) == ([], ["latitude", "heating"])
    assert whole["predicted_price"] != some["predicted_price"]
    assert predict(with_columns, *OPTIONS).stdout.splitlines()[-1] == "not given: latitude, zip_code, heating"


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (["--square-feet", "0", *OPTIONS[2:]], b"", "square_feet: Input should be greater than 0"),
        (OPTIONS[2:], b"", "square_feet: Field required"),
        (["-"], b"{", "the input: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        (["-"], b"[]", "the input: Input should be an object"),
        (["-"], b'{"houses": []}', "houses: List should have at least 1 item after validation, not 0"),
        (["-"], b'{"houses": [1]}', "houses 0: Input should be an object"),
        ([*OPTIONS, "--version", "v9.9.9"], b"", "This version is not in service; in service are v1.0.0"),
        ([*OPTIONS, "--version", "latest"], b"", "model_version: String should match pattern"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], stdin: bytes, sentence: str, store: Store) -> None:
    result = predict(store, *arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {sentence}")


@pytest.mark.parametrize("value", ["nan", "high", "1e999"])
def test_text_is_not_read_as_an_unknown_number(value: str, with_columns: Store) -> None:
    result = predict(with_columns, *OPTIONS, "--column", f"latitude={value}")
    assert result.stderr.startswith("Error: latitude: Input should be a")


@pytest.mark.parametrize("arguments", [[], ["-", "--bedrooms", "2"], ["--confidence", "0.4", *OPTIONS]])
def test_a_command_line_that_names_no_house_or_two_is_a_usage_error(arguments: list[str], store: Store) -> None:
    assert predict(store, *arguments, stdin=b"{}").exit_code == 2


def test_without_a_deployment_the_sentence_names_the_command_that_makes_one(tmp_path: Path) -> None:
    result = predict(Store(tmp_path / "artifacts"), *OPTIONS)
    assert result.stderr == "Error: No model is deployed: run `appraiser train` or `appraiser promote VERSION`.\n"


def test_a_damaged_version_is_not_asked(store: Store) -> None:
    graph = store.root / "v1.0.0" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert predict(store, *OPTIONS).stderr.startswith("Error: observed sha256 ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert f"_APPRAISER_COMPLETE={shell}_complete" in script


def test_bash_completes_commands_and_published_versions(store: Store, tmp_path: Path) -> None:
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    program = Path(sys.executable).with_name("appraiser")
    typed = f"{program} --artifacts {store.root} "
    for beginning, expected in (("ver", "verify"), ("promote v", "v1.0.0")):
        words = (typed + beginning).split()
        asked = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n_appraiser_completion {program}\n"
        shown = subprocess.run(
            ["/bin/bash", "-c", f'{script}\n{asked}echo "${{COMPREPLY[@]}}"'],
            env=os.environ | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.stdout.split() == [expected], shown.stderr


def commands(group: click.Group) -> list[click.Command]:
    return [command for command in group.commands.values() if not isinstance(command, click.Group)]


@pytest.mark.parametrize("command", commands(main), ids=lambda command: command.name)
def test_each_help_text_has_examples_that_are_command_lines(command: click.Command) -> None:
    shown = CliRunner().invoke(main, [str(command.name), "--help"]).stdout
    for line in EXAMPLES[str(command.name)]:
        assert line in shown
        words = shlex.split(line, comments=True)
        if words[0] == "appraiser":
            words = words[2 : words.index("|") if "|" in words else None]
            command.make_context(str(command.name), [word for word in words if word != "house.json"])

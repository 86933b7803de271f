"""The sentences that the product prints, logs, answers and documents are part of its contract: messages.txt lists them.

A changed sentence is a changed line there. `python -m tests.test_messages` writes the file anew.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.gunicorn_process import ROOT
from tests.test_prose import RULES, long_sentences

PACKAGES: Final = ("pricing", "worker", "service", "report", "train", "score", "cli")
LISTED: Final = Path(__file__).with_name("messages.txt")
# Three words at least, each but of letters: shorter texts are names, and a path, SQL or a pattern is no sentence.
SENTENCE: Final = re.compile(r"(?:[\w'`,;:.(){}%$/-]+ ){2,}")
CODE: Final = re.compile(r"\b(?:select|redis\.call|read_\w+|try_cast|json_type)\b|\\d|'self'|Final\[")


def messages() -> Iterator[tuple[str, str]]:
    """The file and the template of each sentence of the product, in order; {} stands for a value."""
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            for text in texts(ast.parse(source.read_bytes())):
                if SENTENCE.match(text) and not CODE.search(text):
                    yield source.relative_to(ROOT).as_posix(), text


def texts(tree: ast.Module) -> Iterator[str]:
    """The constants and f-strings of a module, in order, without docstrings and comments."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]  # a constant of an f-string is text


def listing() -> str:
    """What messages.txt holds: one message a line, by file."""
    return "".join(f"{source}: {text!r}\n" for source, text in sorted(set(messages())))


def test_the_messages_are_those_that_are_listed() -> None:
    assert LISTED.read_text("utf-8").splitlines() == listing().splitlines()


def test_messages_follow_the_rule_for_sentences() -> None:
    found = list(messages())
    broken = [
        f"{source}: {text!r} ({rule})"
        for source, text in found
        for rule, pattern in RULES.items()
        if re.search(pattern, re.sub(r"`[^`]*`", "x", text), re.IGNORECASE)
    ]
    assert broken == []
    assert [text for _, text in found if list(long_sentences(text))] == []
    assert len(found) > 300  # otherwise this has read nothing


@pytest.mark.parametrize("source", ['x = "the file is no CSV"', 'raise ValueError(f"{name} says that it is")'])
def test_a_message_that_breaks_the_rule_is_found(source: str) -> None:
    (text,) = texts(ast.parse(source))
    assert any(re.search(pattern, text) for pattern in RULES.values())
    assert SENTENCE.match(text)


if __name__ == "__main__":
    LISTED.write_text(listing(), "utf-8")

"""The mechanical half of the rule for sentences: subject, verb, term.

It reads docstrings and comments, and the text of pages without their code. REVISED lists what has been revised by the
rule; it grows until it holds everything.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.gunicorn_process import ROOT

REVISED: Final = (
    "CONTRIBUTING.md",
    "README.md",
    "docs/api.md",
    "docs/containers.md",
    "docs/deploying-models.md",
    "docs/design.md",
    "docs/intervals.md",
    "docs/journal.md",
    "docs/migrating.md",
    "docs/monitoring.md",
    "docs/open-inference.md",
    "docs/page.md",
    "docs/performance.md",
    "docs/report.md",
    "docs/scoring.md",
    "docs/security.md",
    "docs/settings.md",
    "docs/training.md",
    "docs/troubleshooting.md",
    "docs/worker.md",
    "cli",
    "gunicorn.conf.py",
    "pricing",
    "report",
    "score",
    "service",
    "train",
    "worker",
)
MAX_WORDS: Final = 30
RULES: Final = {
    "a process is not a person": r"\b(?:who|whoever|nobody|nobody's|anybody|anybody's|somebody|he|his)\b",
    "name the thing instead of telling": r"\b(?:told|tells?|telling|said|says?|saying)\b",
    "is not, instead of is no": r"\b(?:is|are|there is|there are) (?:no|nothing)\b",
    "the condition comes first": r"[,;] else\b",
}
FIRST_WORDS: Final = {"What", "Who", "How", "It", "They", "That", "Whoever"}


class Sentence(NamedTuple):
    """A piece of prose and where it begins."""

    place: str
    text: str
    is_docstring: bool = False


def of_python(path: Path) -> Iterator[Sentence]:
    """Docstrings and comments of a module; comments on neighboring lines are one."""
    source = path.read_text("utf-8")
    name = path.relative_to(ROOT)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield Sentence(f"{name}:{getattr(node, 'lineno', 1)}", text, is_docstring=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string and "type: ignore" not in token.string:
            yield Sentence(f"{name}:{token.start[0]}", token.string.lstrip("# "))


def of_page(path: Path) -> Iterator[Sentence]:
    """Paragraphs, entries of lists and rows of tables."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for paragraph in re.split(r"\n\n|\n(?=[*|#] ?)|(?<=\|)\s*(?=\|)| \| ", text):
        if paragraph.strip():
            yield Sentence(str(path.relative_to(ROOT)), paragraph.strip())


def of(name: str) -> Iterator[Sentence]:
    """The prose of a page, a module, or all modules of a room."""
    path = ROOT / name
    if path.suffix == ".md":
        yield from of_page(path)
        return
    for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
        yield from of_python(module)


def long_sentences(prose: str) -> Iterator[list[str]]:
    """The words of each sentence, or entry of a list, that has too many."""
    for part in re.split(r"(?<=[.:;?!])\s|\n\s*\n|\n\s*\*|^\s*\*|\n(?=[│├└<])|(?<=\n)\n", prose):
        if len(part.split()) > MAX_WORDS:
            yield part.split()


def breaches(sentence: Sentence) -> Iterator[str]:
    """The rules that it breaks."""
    prose = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|\"[^\"]*\"", "x", sentence.text)
    for rule, pattern in RULES.items():
        if found := re.search(pattern, prose, re.IGNORECASE):
            yield f"{rule}: {found[0]!r}"
    for words in long_sentences(prose):
        yield f"more than {MAX_WORDS} words: {' '.join(words[:6])} ..."
    if sentence.is_docstring:
        first = sentence.text.splitlines()[0]
        if first.split()[0] in FIRST_WORDS:
            yield f"a docstring begins with what the caller gets, not with {first.split()[0]!r}"
        if not first.endswith((".", ":")):
            yield f"the first line of a docstring is a sentence: {first!r}"


@pytest.mark.parametrize("name", REVISED)
def test_sentences_follow_the_rule(name: str) -> None:
    found = list(of(name))
    assert [f"{s.place}: {breach}" for s in found for breach in breaches(s)] == []
    assert len(found) > 2  # otherwise this has read nothing


@pytest.mark.parametrize(
    "text",
    [
        "Who may ask what.",
        "The file is no ONNX file.",
        "There is nothing at this path.",
        "The log tells why.",
        "What stands around every answer.",
        "Read it in one go, else the reader waits.",
        "word " * (MAX_WORDS + 1) + ".",
        "A first line without an end",
    ],
)
def test_a_sentence_that_breaks_the_rule_is_found(text: str) -> None:
    assert list(breaches(Sentence("here", text, is_docstring=True)))


@pytest.mark.parametrize("text", ["Price one house.", "Returns None if no version is deployed.", "Raises OSError."])
def test_a_good_sentence_is_left_alone(text: str) -> None:
    assert list(breaches(Sentence("here", text, is_docstring=True))) == []

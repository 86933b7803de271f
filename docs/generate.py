"""Writes the tables of pages in docs/ that are made from the code: `make docs`."""

import re
from pathlib import Path
from typing import Final

import click
from pydantic.fields import FieldInfo

from cli.training import train
from pricing.artifacts.groups import OTHER, WORDS, group_of
from pricing.house import FEATURES
from service.api.routes import ROUTES
from service.contract import Houses
from service.settings import PREFIX, Settings

HERE: Final = Path(__file__).parent


def settings_table() -> str:
    """One row for each setting of the service, and one for the setting of the commands."""
    rows = [
        row(PREFIX + name.upper(), default_of(field), field.description)
        for name, field in Settings.model_fields.items()
    ]
    (keep,) = (found for found in train.params if isinstance(found, click.Option) and found.name == "keep")
    rows.append(row(str(keep.envvar), f"`{keep.default}`", keep.help))
    return "\n".join(["| variable | default | what |", "|---|---|---|", *rows])


def row(name: str, default: str, text: str | None) -> str:
    """A row of the table of settings."""
    return f"| `{name}` | {default} | {text} |"


def default_of(field: FieldInfo) -> str:
    """A default as the table shows it."""
    if field.default_factory is not None:
        return str(field.default_factory.__doc__).removesuffix(".").lower()
    return f"`{field.default}`" if field.default not in {"", ()} else "none"


def routes_table() -> str:
    """One row for each route."""
    rows = []
    for route in ROUTES:
        about = route.operation(Houses)["summary"] if route.operation else "a page for people, and its files"
        scope = route.access.scope or "none"
        rows.append(
            f"| {route.method} | `{route.path}` | {scope} | {'yes' if route.access.limited else 'no'} | {about} |"
        )
    return "\n".join(["| method | path | scope of the key | limited | what |", "|---|---|---|---|---|", *rows])


def groups_table() -> str:
    """One row for each group that a column may belong to by its name."""
    rows = []
    for group, words in (WORDS | {OTHER: "none of these"}).items():
        fields = ", ".join(f"`{name}`" for name in FEATURES if group_of(name) == group)
        rows.append(f"| {group} | {fields} | {words} |")
    return "\n".join(["| group | fields | words |", "|---|---|---|", *rows])


def pages() -> dict[Path, str]:
    """Each page with its table, as it should be."""
    tables = {"settings": settings_table(), "api": routes_table(), "explanations": groups_table()}
    written = {}
    for name, table in tables.items():
        path = HERE / f"{name}.md"
        marked = re.compile(r"(<!-- made by generate\.py -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
        written[path] = marked.sub(lambda found, table=table: found[1] + table + found[2], path.read_text("utf-8"))  # type: ignore[misc]
    return written


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

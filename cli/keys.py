"""`appraiser keys`."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from cli.context import Workspace
from cli.endings import uninterrupted
from pricing.errors import changed
from service.access.api_keys import LONGEST_NOTE, SCOPES, Key, Scope


def _name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Accept a name that fits on one line of a list."""
    if not (value.isprintable() and 0 < len(value) <= LONGEST_NOTE):
        msg = f"expected 1 to {LONGEST_NOTE} printable characters, got {value!r}"
        raise click.BadParameter(msg)
    return value


class _Lifetime(click.ParamType[timedelta | None]):
    """Parses `90d`, or `never`, which is None."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta | None:
        if value == "never":
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", str(value))
        if found is None:
            self.fail(f"expected minutes, hours or days, as in 30m, 12h or 90d, or never; got {value!r}", param, ctx)
        return int(found[1]) * UNITS[found[2]]


UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
LIFETIME: Final = _Lifetime()


@click.group()
def keys() -> None:
    """Keys of clients, which the service asks for when APPRAISER_REQUIRE_KEYS is true."""


@keys.command("create")
@click.argument("note", metavar="NAME", callback=_name)
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Once for each.")
@click.option("--expires", type=LIFETIME, default="365d", show_default=True, help="30m, 12h, 90d, or never.")
@click.pass_obj
def create_key(place: Workspace, note: str, scopes: tuple[Scope, ...], expires: timedelta | None) -> None:
    """Make a key for NAME and print it: once, since only its digest is kept."""
    _tell_key(lambda: place.keys.create(note, scopes, expires))


@keys.command("list")
@click.pass_obj
def list_keys(place: Workspace) -> None:
    """Print every key: its id, what it is worth, its end, its scopes, and whose it is."""
    now = datetime.now(UTC)
    for key in place.keys.stored():
        end = f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never"
        click.echo(f"{key.id}  {key.state(now):7}  {end:20}  {','.join(key.scopes):20}  {key.note}")


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke_key(place: Workspace, key_id: str) -> None:
    """End a key now: within a second and a half, every worker refuses it."""
    with uninterrupted():
        sentence = f"{key_id} of {place.keys.revoke(key_id).note} is revoked"
        with changed(sentence):
            click.echo(sentence)


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option("--overlap", type=LIFETIME, default="1d", show_default=True, help="How long the old key stays valid.")
@click.pass_obj
def rotate_key(place: Workspace, key_id: str, overlap: timedelta | None) -> None:
    """Make the successor of a key, with its name, scopes and lifetime, and print it."""
    _tell_key(lambda: place.keys.rotate(key_id, overlap))


def _tell_key(make: Callable[[], tuple[Key, str]]) -> None:
    """Make a key and print it. The key alone is on stdout, for a pipe to where it is kept."""
    if sys.stdout is None:
        msg = "standard output is closed, so the key cannot be printed; nothing has changed"
        raise click.ClickException(msg)
    with uninterrupted():
        key, text = make()
        end = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "for good"
        told = f"{key.id} of {key.note}: {', '.join(key.scopes)}, {end}; this is shown only now:"
        with changed(f"the key {key.id} was created but not printed: `appraiser keys revoke {key.id}` revokes it"):
            click.echo(told, err=True)
            click.echo(text)

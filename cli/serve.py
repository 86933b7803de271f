"""`appraiser serve`."""

import os
import sys
from pathlib import Path

import click

from cli.context import Workspace


@click.command()
@click.pass_obj
def serve(place: Workspace) -> None:
    """Run the service with gunicorn, configured by gunicorn.conf.py in this folder."""
    if not Path("gunicorn.conf.py").is_file():
        msg = f"gunicorn.conf.py was not found in {Path.cwd()}; run this command in the folder that contains it"
        raise click.ClickException(msg)
    from service.settings import read_hosting, read_settings

    os.environ["WEB_CONCURRENCY"] = str(read_hosting().web_concurrency)  # gunicorn reads it before its configuration
    os.environ["APPRAISER_ARTIFACTS"] = str(
        place.store.root
    )  # as given by --artifacts; the service reads the environment
    os.environ["APPRAISER_RUN"] = str(place.run)
    os.environ["APPRAISER_JOURNAL"] = str(place.journal)
    read_settings()  # a wrong one ends the command here, with a sentence
    # Its script, since an upgrade by USR2 runs the same again, and `python -m gunicorn` cannot be run again like that.
    script = str(Path(sys.executable).with_name("gunicorn"))
    os.execv(sys.executable, [sys.executable, script])  # noqa: S606 -- becomes gunicorn, with no shell

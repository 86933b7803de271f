"""Starts a service and runs the clients of others against it, each in its own environment: `.ci/clients/run`.

`python -m tests.clients ARTIFACTS TRITON KSERVE`, where the last two are the Pythons of the environments.
"""

import subprocess
import sys
from pathlib import Path

from tests.gunicorn_process import ROOT, gunicorn

HERE = Path(__file__).parent


def main(artifacts: str, triton: str, kserve: str) -> None:
    """Run both. Raises CalledProcessError if one fails."""
    with gunicorn(None, cwd=ROOT, workers=2, env={"APPRAISER_ARTIFACTS": artifacts}) as server:
        for python, script, address in (
            (triton, "triton.py", server.url.removeprefix("http://")),
            (kserve, "kserve_client.py", server.url),
        ):
            subprocess.run([python, str(HERE / script), address], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Headers of every answer that forbid a browser all that the service does not use.

https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers has the reasons. HTTPS
only (HSTS) is left to the proxy, which speaks it.
"""

import base64
import hashlib
import re
from typing import Final

from service.reply import Headers

PAGES: Final = frozenset({"/", "/static/", "/docs", "/docs/", "/docs/static/", "/docs/swagger/"})
"""The routes of pages and their files."""

_ALL: Final[Headers] = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
# A page: its own scripts, styles and pictures (a few of which are in a style sheet), and its own service to ask; no
# line of script or style within the page.
_OWN: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DATA_HEADERS: Final[Headers] = (*_ALL, ("Content-Security-Policy", _NOTHING), ("Cache-Control", "no-store"))
PAGE_HEADERS: Final[Headers] = (*_ALL, ("Content-Security-Policy", _OWN))


_STYLE: Final = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


def report_headers(page: bytes) -> Headers:
    """The headers of a report: the one style element that it holds, by its digest, and no script."""
    style = _STYLE.search(page)
    digest = base64.b64encode(hashlib.sha256(style[1] if style else b"").digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return (*_ALL, ("Content-Security-Policy", policy), ("Cache-Control", "no-store"))


def headers_of(route: str) -> Headers:
    """The headers of a route's answers; only pages and their files may be kept."""
    return PAGE_HEADERS if route in PAGES else DATA_HEADERS

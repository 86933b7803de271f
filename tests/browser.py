"""A real Chromium for a test. Each tab is watched for all that a page of the service must never do."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium: Final = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")
DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
TIMEOUT: Final = 15_000  # milliseconds, for what takes a few hundred on an idle machine
REPORTING: Final = """
addEventListener("securitypolicyviolation", (event) => report(`${event.violatedDirective} ${event.blockedURI}`));
"""
NOT_OK: Final = "Failed to load resource"  # a status that is not 2xx, which tests ask for

Open = Callable[..., Page]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; `--no-sandbox`, since in a container nobody else's pages are open."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """What the tabs of a test did that no page of the service may do."""

    def __init__(self, browser: Browser) -> None:
        self.faults: list[str] = []
        self.requests: list[Request] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def open(self, url: str, **options: Any) -> Page:  # noqa: ANN401 -- whatever a context takes
        """Open a tab of its own storage."""
        context = self._browser.new_context(**{"viewport": DESKTOP, "base_url": url} | options)
        self._contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        context.expose_binding("report", lambda _, breach: self.faults.append(f"policy: {breach}"))
        context.add_init_script(REPORTING)
        page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", lambda said: self._listen(said.type, said.text))
        page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 -- Playwright marks it
        page.on("request", lambda request: self._look(request, url))
        page.goto(url)
        return page

    def close(self) -> None:
        """Close all tabs."""
        for context in self._contexts:
            context.close()

    def _listen(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not text.startswith(NOT_OK):
            self.faults.append(f"console: {text}")

    def _look(self, request: Request, url: str) -> None:
        origin = "/".join(url.split("/")[:3])
        if not request.url.startswith((f"{origin}/", f"blob:{origin}/", "data:")):
            self.faults.append(f"foreign: {request.url}")


@contextmanager
def watched(browser: Browser) -> Iterator[Watched]:
    """Tabs for a test. Raises AssertionError at the end if one of them did what no page may do."""
    tabs = Watched(browser)
    try:
        yield tabs
    finally:
        tabs.close()
    assert tabs.faults == [], tabs.faults

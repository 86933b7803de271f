"""How soon the page shows a price, and its longest tasks: `python -m benchmarks.page URL [--rounds N]`.

A real Chromium opens the page of a running service N times, each with an empty cache: the bytes that are received, the
milliseconds from the navigation to the price, and the longest task of the page's thread until then. Then one house is
typed key by key, and 20,000 houses are priced as a file, with the longest task of each. A task is what DevTools calls
one: scripts, layout and paint.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from pricing.house import FEATURES
from service.contract import EXAMPLE_HOUSE

ROWS: Final = 20_000
PRICED: Final = """
new MutationObserver(() => {
  if (!window.priced && document.getElementById("price")?.textContent.includes("$")) window.priced = performance.now();
}).observe(document, { childList: true, subtree: true, characterData: true });
"""
DONE_SECONDS: Final = 120


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        views = [first_view(browser, options.url) for _ in range(options.rounds)]
        received, until, tasks = zip(*views, strict=True)
        print(f"first view: {max(received):,.0f} bytes, price after {statistics.median(until):.0f} ms ", end="")
        print(f"(from {min(until):.0f} to {max(until):.0f}), longest task {statistics.median(tasks):.1f} ms")
        with opened(browser, options.url) as page:
            page.wait_for_load_state("networkidle")
            print(f"typing 20 keys: longest task {longest_task(browser, page, type_keys):.1f} ms")
            print(f"{ROWS:,} houses in a file: longest task {longest_task(browser, page, price_file):.1f} ms")
        browser.close()


@contextmanager
def opened(browser: Browser, url: str | None = None) -> Iterator[Page]:
    """A tab with an empty cache."""
    context = browser.new_context()
    context.add_init_script(PRICED)
    page = context.new_page()
    if url:
        page.goto(url)
    yield page
    context.close()


def first_view(browser: Browser, url: str) -> tuple[float, float, float]:
    """Bytes received, milliseconds until the price, and those of the longest task."""
    received: list[float] = []
    with opened(browser) as page:
        wire = page.context.new_cdp_session(page)
        wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        wire.send("Network.enable")

        def look(page: Page) -> None:
            page.goto(url)
            page.locator("#price", has_text="$").wait_for()

        longest = longest_task(browser, page, look)
        until: float = page.evaluate("window.priced")
        page.locator("#spoken:not(:empty)").wait_for(state="attached")
        page.wait_for_load_state("networkidle")
    return sum(received), until, longest


def type_keys(page: Page) -> None:
    """Type into the first field, as a fast typist does, and wait for all that follows."""
    page.locator("#house input").first.fill("")
    page.locator("#house input").first.press_sequentially("12345" * 4, delay=60)
    page.locator("#house input").first.fill("2500")
    page.wait_for_timeout(1_500)


def price_file(page: Page) -> None:
    """Price a file."""
    line = ",".join(str(EXAMPLE_HOUSE[name]) for name in FEATURES)
    text = "\n".join([",".join(FEATURES), *[line] * ROWS])
    file: FilePayload = {"name": "houses.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.locator("#file input").set_input_files(file)
    page.locator("#file .told", has_text="is done").wait_for(timeout=DONE_SECONDS * 1_000)


def longest_task(browser: Browser, page: Page, action: Callable[[Page], None]) -> float:
    """Milliseconds of the longest task of the page's main thread while `action` runs."""
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    action(page)
    events: list[dict[str, Any]] = json.loads(browser.stop_tracing())["traceEvents"]
    main_threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event for event in events if event["name"].endswith("RunTask") and "dur" in event]
    return max(float(task["dur"]) for task in tasks if (task["pid"], task["tid"]) in main_threads) / 1_000


if __name__ == "__main__":
    main()

"""A CSV file, chosen or dropped, is priced in parts: bad rows are marked, and no cell becomes a formula."""

import csv
import io
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import FilePayload, Page, Route, expect

from tests.browser import Watched, needs_chromium
from tests.fake_service import HOUSE
from tests.gunicorn_process import GunicornProcess

pytestmark = needs_chromium
NAMES: Final = tuple(HOUSE)
BATCH: Final = re.compile(r"/predict/batch")
SEVEN: Final = (
    "\ufeffid;Square Feet;bedrooms;bathrooms;age_years;distance_to_city;remark\r\n"
    '=1+1;2000;3;2;10;5;"two; with ""quotes"" and\na line"\r\n'
    "-2;1500;2;1;20;10;@cmd\r\n"
    "bad;-1;2.5;2;10;5;\r\n"
    "words;many;3;2;10;5;\r\n"
    "\r\n"
    "gap;2000;3;;10;5;\r\n"
    "large;9000;4;3;5;3;+49 170\r\n"
    "last;2500;4;3;5;3;é"
)


def payload(text: str) -> FilePayload:
    return {"name": "houses.csv", "mimeType": "text/csv", "buffer": text.encode()}


def many(count: int) -> str:
    rows = [
        ",".join(str(HOUSE[name] + (row if name == "square_feet" else 0)) for name in NAMES) for row in range(count)
    ]
    return "\n".join([",".join(NAMES), *rows, ""])


def price(server: GunicornProcess, house: Mapping[str, Any]) -> float:
    found: float = httpx.post(f"{server.url}/predict", json=house).raise_for_status().json()["predicted_price"]
    return found


def downloaded(page: Page) -> list[list[str]]:
    """The rows of the file that the page offers."""
    with page.expect_download() as found:
        page.get_by_role("link", name="Download the result").click()
    text = Path(found.value.path()).read_bytes().decode()
    return list(csv.reader(io.StringIO(text, newline="")))


def test_good_rows_are_priced_and_bad_ones_are_marked_with_their_reason(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    page.get_by_label("Choose a CSV file").set_input_files(payload(SEVEN))

    expect(page.locator("#file .told")).to_have_text("houses.csv is done: 4 priced, 3 not valid.")
    rows = page.locator("#file tbody tr")
    expect(rows).to_have_count(7)
    expected = f"${price(server, HOUSE):,.0f}"
    assert rows.nth(0).locator("td").first.text_content() == expected
    bad = page.locator("#file tr.bad")
    assert bad.locator("th").all_text_contents() == ["4", "5", "7"]
    assert bad.locator("td:last-child").all_text_contents() == [
        "Living area: Input should be greater than 0; Number of bedrooms: Input should be a multiple of 1",
        "Living area: Input should be a valid number",
        "Number of bathrooms: Field required",
    ]

    head, *lines = downloaded(page)
    assert head[:7] == ["id", "Square Feet", *NAMES[1:], "remark"]
    assert head[7:] == [
        "predicted_price",
        "lower",
        "upper",
        "confidence_level",
        "model_version",
        "warnings",
        "problem",
    ]
    found = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["id"] for row in found] == ["'=1+1", "-2", "bad", "words", "gap", "large", "last"]
    assert [row["remark"] for row in found] == [
        'two; with "quotes" and\na line',
        "'@cmd",
        "",
        "",
        "",
        "'+49 170",
        "é",
    ]
    assert [bool(row["predicted_price"]) for row in found] == [True, True, False, False, False, True, True]
    assert float(found[0]["predicted_price"]) == price(server, HOUSE)
    assert "outside of" in found[5]["warnings"]


def test_a_file_without_a_column_of_the_contract_is_refused_before_anything_is_asked(
    server: GunicornProcess, tabs: Watched
) -> None:
    page = tabs.open(f"{server.url}/")
    page.get_by_label("Choose a CSV file").set_input_files(payload("square_feet,bedrooms\n2000,3\n"))

    expect(page.locator("#file .told")).to_contain_text("not found: bathrooms, age_years, distance_to_city.")
    assert not [request for request in tabs.requests if BATCH.search(request.url)]
    expect(page.get_by_role("link", name="Download the result")).to_be_hidden()


def test_a_large_file_is_asked_for_in_parts_and_all_of_it_can_be_downloaded(
    server: GunicornProcess, tabs: Watched
) -> None:
    page = tabs.open(f"{server.url}/")
    page.get_by_label("Choose a CSV file").set_input_files(payload(many(1_201)))

    expect(page.locator("#file .told")).to_contain_text("houses.csv is done: 1201 priced, 0 not valid.")
    assert len([request for request in tabs.requests if BATCH.search(request.url)]) == 3
    expect(page.locator("#file tbody tr")).to_have_count(200)
    lines = downloaded(page)
    assert len(lines) == 1_202
    assert float(lines[-1][5]) == price(server, HOUSE | {"square_feet": 3_200})


def test_what_is_priced_when_it_is_canceled_can_be_downloaded(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    batches: list[Route] = []

    def answer_one(route: Route) -> None:
        batches.append(route)
        if len(batches) == 1:
            route.continue_()

    page.route(BATCH, answer_one)
    page.get_by_label("Choose a CSV file").set_input_files(payload(many(1_001)))
    expect(page.locator("#file .told")).to_contain_text("500 priced")
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator("#file .told")).to_contain_text("Canceled. 500 priced, 0 not valid.")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    assert len(downloaded(page)) == 501


def test_a_file_can_be_dropped_anywhere(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/#model_version=v3.0.0")
    expect(page.get_by_label("Postal code")).to_be_visible()
    text = ",".join([*NAMES, "zip code"]) + "\n2000,3,2,10,5,98103\n2000,3,2,10,5,\n"
    transfer = page.evaluate_handle(
        """(text) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], "dropped.csv", { type: "text/csv" }));
            return transfer;
        }""",
        text,
    )
    page.dispatch_event("h1", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("h1", "drop", {"dataTransfer": transfer})

    expect(page.locator("#file .told")).to_have_text("dropped.csv is done: 2 priced, 0 not valid.")
    with_zip, without = (line[6] for line in downloaded(page)[1:])
    assert with_zip != without


def test_csv_is_read_as_python_reads_it_wherever_it_is_cut(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    for separator, size in itertools.product(",;\t|", (1, 3, 1_000)):
        rows = [["a", "b c", ""], ['"', '""', separator], ["\n", "\r\n", "x\ny"], ["é😀", " ", "'"], ["1", "-2", "+3"]]
        file = io.StringIO()
        csv.writer(file, delimiter=separator).writerows(rows)

        found = page.evaluate(
            """async ([text, size, separator]) => {
                const { Reader } = await import("./static/csv.js");
                const reader = new Reader(separator);
                const characters = [...text];
                const rows = [];
                for (let at = 0; at < characters.length; at += size) {
                    rows.push(...reader.push(characters.slice(at, at + size).join("")));
                }
                return [...rows, ...reader.end()];
            }""",
            [file.getvalue(), size, separator],
        )

        assert found == rows, (separator, size)

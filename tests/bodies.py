"""Bodies for the prediction routes, good and bad, and exactly how each is answered: data, for whoever takes bodies."""

from typing import Final, NamedTuple, TypeAlias

Loc: TypeAlias = tuple[str | int, ...]

MARKER: Final = "PLANTED"  # wherever a body has room for it; no answer may contain it
JSON: Final = "application/json"
MAX_BYTES: Final = 16_384  # default of APPRAISER_MAX_PREDICT_BODY_BYTES
MAX_BATCH_BYTES: Final = 1_048_576  # default of APPRAISER_MAX_BODY_BYTES
MAX_ROWS: Final = 1_000  # default of APPRAISER_MAX_BATCH_ROWS
BODY: Final[tuple[Loc, ...]] = (("body",),)


class Case(NamedTuple):
    """A body, the status of its answer and, for 422, every `loc` of the answer in its order."""

    name: str
    body: bytes
    status: int
    blamed: tuple[Loc, ...] = ()
    content_type: str | None = JSON
    path: str = "/predict"


TEXTS: Final = {
    "square_feet": "2000",
    "bedrooms": "3",
    "bathrooms": "2",
    "age_years": "10",
    "distance_to_city": "5",
    MARKER: f'"{MARKER}"',  # fields that are not known are ignored
}


def house(field: str = MARKER, text: str = f'"{MARKER}"') -> bytes:
    """One house, with the JSON text of one field replaced: text, so that it may be what no program would write."""
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in (TEXTS | {field: text}).items()) + "}").encode()


def without(field: str) -> bytes:
    """One house that lacks a field."""
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in TEXTS.items() if name != field) + "}").encode()


def batch(*rows: bytes) -> bytes:
    """Houses as the body of a batch."""
    return b'{"' + MARKER.encode() + b'": 1, "houses": [' + b", ".join(rows) + b"]}"


GOOD: Final = house()
FIELDS: Final = tuple(name for name in TEXTS if name != MARKER)

NOT_NUMBERS: Final = {
    "a number as text": '"2"',
    "text": f'"{MARKER}"',
    "true": "true",
    "null": "null",
    "a list": f'[2, "{MARKER}"]',
    "an object": f'{{"{MARKER}": 2}}',
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e999": "1e999",
    "-1e999": "-1e999",
    "4,000 digits": "9" * 4_000,
}
# by field: refused, the lowest and the highest accepted, refused
EDGES: Final = {
    "square_feet": ("0", "0.001", "50000", "50000.01"),
    "bedrooms": ("-1", "0", "50", "51"),
    "bathrooms": ("-0.25", "0", "50", "50.25"),
    "age_years": ("-0.1", "0", "500", "500.1"),
    "distance_to_city": ("-0.1", "0", "1000", "1000.1"),
}
NOT_JSON: Final = {
    "empty": b"",
    "white space": b" \r\n\t ",
    "one word": MARKER.encode(),
    "single quotes": GOOD.replace(b'"', b"'"),
    "trailing garbage": GOOD + MARKER.encode(),
    "a second house": GOOD + GOOD,
    "a zero byte after it": GOOD + b"\0",
    "without its last byte": GOOD[:-1],
    "cut inside a key": GOOD[:15],
    "cut inside a value": GOOD[:-3],
    "a trailing comma": GOOD[:-1] + b",}",
    "a comment": GOOD + b"// " + MARKER.encode(),
    "a leading zero": house("bedrooms", "03"),
    "a plus sign": house("bedrooms", "+3"),
    "a hexadecimal number": house("bedrooms", "0x3"),
    "no value": house("bedrooms", ""),
    "5,000 digits": house("bedrooms", "9" * 5_000),
    "-5,000 digits": house("square_feet", "-" + "9" * 5_000),
    "5,000 digits in a field that is not known": house(MARKER, "9" * 5_000),
    "10,000 brackets": b"[" * 10_000,
    "3,000 braces": b'{"a":' * 3_000,
    "5,000 closed brackets in a field that is not known": house(MARKER, "[" * 5_000 + "]" * 5_000),
    "1,000 empty objects in a field that is not known": house(MARKER, "[" + "{}," * 1_000 + "{}]"),
    "UTF-16 with its mark": GOOD.decode().encode("utf-16"),
    "UTF-16 without its mark, little endian": GOOD.decode().encode("utf-16-le"),
    "UTF-16 without its mark, big endian": GOOD.decode().encode("utf-16-be"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "UTF-8 with a byte order mark": GOOD.decode().encode("utf-8-sig"),
    "latin-1": house(MARKER, '"ä"').decode().encode("latin-1"),
    "a lone surrogate in a key": house("\\ud800", "1"),
    "a lone surrogate in a value": house(MARKER, '"\\ud800"'),
    "a lone low surrogate": house(MARKER, '"\\udc00"'),
    "a lone surrogate as raw bytes": house(MARKER, '"@"').replace(b"@", b"\xed\xa0\x80"),
    "a raw control character": house(MARKER, '"\x01"'),
}
NOT_OBJECTS: Final = {"null": b"null", "a list": b"[]", "a string": f'"{MARKER}"'.encode(), "a number": b"12"}
OTHER_TYPES: Final = {
    "plain text": "text/plain",
    "a form": "application/x-www-form-urlencoded",
    "bytes": "application/octet-stream",
    "a type that begins like JSON": "application/jsonp",
    "a type that only ends like JSON": "text/x+json",
    "several types": "text/plain, application/json",
}
JSON_TYPES: Final = {
    "no content type": None,
    "a charset": "application/json; charset=utf-8",
    "capitals": "Application/JSON",
    "a suffix": "application/vnd.api+json",
}
MULTIPART: Final = f'--x\r\nContent-Disposition: form-data; name="{MARKER}"\r\n\r\n'.encode() + GOOD + b"\r\n--x--\r\n"


def asking(body: bytes, text: str) -> bytes:
    """A body that also has these fields, as JSON text."""
    return body[:-1] + f", {text}}}".encode()


WELL: Final = (
    Case("an ordinary house", GOOD, 200),
    Case("whole bedrooms written 3.0", house("bedrooms", "3.0"), 200),
    Case("whole bedrooms written 3e0", house("bedrooms", "3e0"), 200),
    Case("no bedrooms written -0.0", house("bedrooms", "-0.0"), 200),
    Case("5,000 digits of a fraction", house("distance_to_city", "0." + "3" * 5_000), 200),
    Case("more digits than a float has", house("age_years", "10.000000000000000000000000001"), 200),
    Case("next to no square feet", house("square_feet", "1e-40"), 200),
    Case("emoji and escapes in a field that is not known", house(MARKER, '"\\u0000\\ud83d\\ude00 😀"'), 200),
    Case("a key twice, the last is right", b'{"bedrooms": "2", ' + GOOD[1:], 200),
    Case("exactly as many bytes as allowed", GOOD.ljust(MAX_BYTES), 200),
    Case("a level", asking(GOOD, '"confidence": 0.5'), 200),
    Case("no level and no version", asking(GOOD, '"confidence": null, "model_version": null'), 200),
    Case("a version", asking(GOOD, '"model_version": "champion"'), 200),
    *(Case(f"content type: {name}", GOOD, 200, content_type=media) for name, media in JSON_TYPES.items()),
    *(
        Case(f"{field} is {text}", house(field, text), 200)
        for field, (_, lowest, highest, _) in EDGES.items()
        for text in (lowest, highest)
    ),
)
ILL: Final = (
    *(
        Case(f"{field} is {name}", house(field, text), 422, (("body", field),))
        for field in FIELDS
        for name, text in NOT_NUMBERS.items()
    ),
    *(
        Case(f"{field} is {text}", house(field, text), 422, (("body", field),))
        for field, (low, _, _, high) in EDGES.items()
        for text in (low, high)
    ),
    *(Case(f"no {field}", without(field), 422, (("body", field),)) for field in FIELDS),
    Case("no field at all", b"{}", 422, tuple(("body", field) for field in FIELDS)),
    *(
        Case(f"a level of {text}", asking(GOOD, f'"confidence": {text}'), 422, (("body", "confidence"),))
        for text in ("0.49", "0.991", "90", "true", "[]", '"0.5"', f'"{MARKER}"')
    ),
    *(
        Case(f"a version of {text}", asking(GOOD, f'"model_version": {text}'), 422, (("body", "model_version"),))
        for text in ("1", "1.0", "[]", '""', '"v1"', f'"{MARKER}"')
    ),
    Case("two and a half bedrooms", house("bedrooms", "2.5"), 422, (("body", "bedrooms"),)),
    Case("square feet of -0.0", house("square_feet", "-0.0"), 422, (("body", "square_feet"),)),
    Case("a key twice, the last is wrong", GOOD[:-1] + b', "bedrooms": "2"}', 422, (("body", "bedrooms"),)),
    Case("a key in capitals", without("bedrooms")[:-1] + b', "BEDROOMS": 3}', 422, (("body", "bedrooms"),)),
    Case(
        "two fields wrong",
        house("age_years", "-1").replace(b"3", b"51"),
        422,
        (("body", "bedrooms"), ("body", "age_years")),
    ),
    *(Case(f"not JSON: {name}", body, 422, BODY) for name, body in NOT_JSON.items()),
    *(Case(f"not an object: {name}", body, 422, BODY) for name, body in NOT_OBJECTS.items()),
    Case("a batch sent as one house", batch(GOOD), 422, tuple(("body", field) for field in FIELDS)),
    Case("one byte more than allowed", GOOD.ljust(MAX_BYTES + 1), 413),
    Case("2 MB of JSON", house(MARKER, f'"{MARKER * 285_714}"'), 413),
    Case("2 MB of anything, as text", b"x" * 2_000_000, 413, content_type="text/plain"),
    *(Case(f"content type: {name}", GOOD, 415, content_type=media) for name, media in OTHER_TYPES.items()),
    Case("content type: multipart", MULTIPART, 415, content_type="multipart/form-data; boundary=x"),
)


def _many(name: str, body: bytes, status: int, *blamed: Loc) -> Case:
    return Case(f"batch: {name}", body, status, tuple(("body", *loc) for loc in blamed), path="/predict/batch")


BATCHES: Final = (
    _many("one house", batch(GOOD), 200),
    _many("as many houses as allowed", batch(*[without(MARKER)] * MAX_ROWS), 200),
    _many("a level", asking(batch(GOOD), '"confidence": 0.5'), 200),
    _many("no level", asking(batch(GOOD), '"confidence": null'), 200),
    _many("a level as text", asking(batch(GOOD), '"confidence": "0.5"'), 422, ("confidence",)),
    _many("a wrong version", asking(batch(GOOD), '"model_version": "v1"'), 422, ("model_version",)),
    _many("a row without a level", batch(asking(GOOD, '"confidence": null')), 200),
    _many("a row with a level", batch(GOOD, asking(GOOD, '"confidence": 0.5')), 422, ("houses", 1, "confidence")),
    _many("a row with a version", batch(asking(GOOD, '"model_version": ""')), 422, ("houses", 0, "model_version")),
    _many("one house too many", batch(*[without(MARKER)] * (MAX_ROWS + 1)), 422, ("houses",)),
    _many("no house", batch(), 422, ("houses",)),
    _many("no houses", b"{}", 422, ("houses",)),
    _many("houses is null", b'{"houses": null}', 422, ("houses",)),
    _many("houses is an object", b'{"houses": ' + GOOD + b"}", 422, ("houses",)),
    _many("houses is text", b'{"houses": "%s"}' % MARKER.encode(), 422, ("houses",)),
    _many("houses is a number", b'{"houses": 1}', 422, ("houses",)),
    _many("a bare list", b"[" + GOOD + b"]", 422, ()),
    _many("one house, not in a batch", GOOD, 422, ("houses",)),
    _many("not JSON", batch(GOOD)[:-1], 422, ()),
    _many("100,000 brackets", b'{"houses": ' + b"[" * 100_000, 422, ()),
    _many("100,000 empty houses", b'{"houses": [' + b"{}," * 99_999 + b"{}]}", 422, ()),
    _many("10,000 empty houses", b'{"houses": [' + b"{}," * 9_999 + b"{}]}", 422, ("houses",)),
    _many("300,000 numbers", b'{"houses": [' + b"1," * 299_999 + b"1]}", 422, ("houses",)),
    _many("exactly as many bytes as allowed", batch(GOOD).ljust(MAX_BATCH_BYTES), 200),
    _many("one byte more than allowed", batch(GOOD).ljust(MAX_BATCH_BYTES + 1), 413),
    _many("a field of many bytes that is not known", batch(house(MARKER, f'"{MARKER * 100_000}"')), 200),
    _many(
        "many fields that are not known",
        batch(without("bedrooms").replace(b"{", b'{"a": [' + b"1," * 99_999 + b"1], ")),
        422,
        ("houses", 0, "bedrooms"),
    ),
    _many(
        "whole numbers that no float is", batch(GOOD, house("bedrooms", "9" * 4_000)), 422, ("houses", 1, "bedrooms")
    ),
    _many("a row is null", batch(GOOD, b"null"), 422, ("houses", 1)),
    _many("a row is a list", batch(GOOD, b"[2000, 3, 2, 10, 5]"), 422, ("houses", 1)),
    _many("a row is text", batch(b'"%s"' % MARKER.encode(), GOOD), 422, ("houses", 0)),
    _many("one bad row", batch(GOOD, GOOD, house("bedrooms", '"2"'), GOOD), 422, ("houses", 2, "bedrooms")),
    _many("a NaN in a row", batch(GOOD, house("age_years", "NaN")), 422, ("houses", 1, "age_years")),
    _many(
        "two bad rows",
        batch(house("age_years", "501"), GOOD, without("bathrooms")),
        422,
        ("houses", 0, "age_years"),
        ("houses", 2, "bathrooms"),
    ),
    _many(
        "25 bad rows, of which 20 are named",
        batch(*[house("distance_to_city", "-1")] * 25),
        422,
        *(("houses", row, "distance_to_city") for row in range(20)),
    ),
    _many(
        "1,000 rows with nothing right",
        batch(*[b"{}"] * MAX_ROWS),
        422,
        *(("houses", row, field) for row in range(4) for field in FIELDS),
    ),
    _many(
        "the last of 1,000 rows is bad",
        batch(*[GOOD] * (MAX_ROWS - 1), house("square_feet", "-1")),
        422,
        ("houses", MAX_ROWS - 1, "square_feet"),
    ),
    _many("2 MB", batch(*[house(MARKER, f'"{MARKER * 300}"')] * 950), 413),
    Case("batch: content type: plain text", batch(GOOD), 415, content_type="text/plain", path="/predict/batch"),
)
CASES: Final = (*WELL, *ILL, *BATCHES)

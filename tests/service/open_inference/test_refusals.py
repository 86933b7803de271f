"""Every way in which an inference request is wrong has its exact status and sentence; nothing is answered 5xx.

The cases are those of the protocol tests of Triton (http_test.py, http_input_size_limit_test.py, the fuzzing of its
HTTP frontend), MLServer (test_endpoints.py) and KServe (TestV2Endpoints, test_infer_type.py), for this model.
"""

import gzip
import json
import re
import zlib
from typing import Any, Final, NamedTuple

import pytest
from flask.testing import FlaskClient

from pricing.artifacts.store import Artifact
from tests.fake_service import DEFAULTS, HOUSE, fake_app
from tests.service.open_inference.tensors import INFER, LENGTH, Tensor, binary, body_of, columns, packed, tensor

ROWS: Final = 4
MAX_BYTES: Final = 16_384
MARKER: Final = "PLANTED"
GOOD: Final = body_of(columns())
BINARY, HEADER = binary(columns())
HEAD: Final = BINARY[: int(HEADER[LENGTH])]
TAIL: Final = BINARY[len(HEAD) :]
KINDS: Final = "FP64, FP32, INT64, INT32, INT16, INT8, UINT64, UINT32, UINT16, UINT8"
AGES: Final = "The value of row 0 of the input age_years is"


class Case(NamedTuple):
    """A request, and its answer."""

    name: str
    body: bytes
    status: int
    error: str
    headers: dict[str, str] = {}  # noqa: RUF012 -- never changed
    path: str = INFER
    method: str = "POST"


def with_inputs(name: str, inputs: list[Tensor], error: str, status: int = 400) -> Case:
    return Case(name, body_of(inputs), status, error)


def with_column(name: str, replaced: Tensor | None, error: str) -> Case:
    return with_inputs(name, columns(age_years=replaced), error)


def with_field(name: str, error: str, **fields: object) -> Case:
    return Case(name, body_of(columns(), **fields), 400, error)


def without(key: str) -> Tensor:
    return {name: value for name, value in tensor("age_years", 10).items() if name != key}


def with_length(name: str, length: str, error: str, body: bytes = BINARY) -> Case:
    return Case(name, body, 400, error, {LENGTH: length})


def with_binary(name: str, replaced: Tensor, chunk: bytes, error: str) -> Case:
    """The ages in binary, with a chunk that may not be theirs."""
    head = body_of(
        columns(age_years={key: value for key, value in replaced.items() if key != "data"} | sized(len(chunk)))
    )
    return Case(name, head + chunk, 400, error, {LENGTH: str(len(head))})


def sized(size: object) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


NOT_JSON: Final = "The body is not valid JSON: "
NO_LENGTH: Final = f"The header {LENGTH} is not valid: a number of bytes is expected."
SHAPE: Final = "The shape of input 3 is not valid: [n] or [n, 1] is expected, with one input for each column."
NUMBER: Final = "An element of the input age_years is not valid: FP64 is expected."
ONE: Final = "One input for all columns has the datatype FP32 and the shape [n, 5]; another was observed."
MATRIX: Final = [2000, 3, 2, 10, 5]

CASES: Final = (
    # JSON
    Case("an empty body", b"", 400, NOT_JSON + "Input is a zero-length, empty document: line 1 column 1 (char 0)."),
    Case("no JSON", b"\xff" + MARKER.encode(), 400, NOT_JSON + "str is not valid UTF-8: surrogates not allowed: *"),
    Case("half a body", GOOD[:-3], 400, NOT_JSON + "*"),
    Case("two bodies", GOOD + GOOD, 400, NOT_JSON + "*"),
    Case("NaN", GOOD.replace(b"2000", b"NaN"), 400, NOT_JSON + "*"),
    Case("a number beyond float64", GOOD.replace(b"2000", b"1e400"), 400, NOT_JSON + "*"),
    Case("a thousand brackets", b"[" * 5_000, 400, NOT_JSON + "*"),
    Case("a list", b"[]", 400, "The request is not valid: body: Input should be a valid dictionary."),
    Case("null", b"null", 400, "The request is not valid: body: Input should be a valid dictionary."),
    # Fields
    Case("no inputs", b"{}", 400, "The request is not valid: inputs: Field required."),
    Case(
        "inputs of an object", b'{"inputs": {}}', 400, "The request is not valid: inputs: Input should be a valid list."
    ),
    with_inputs("an empty list of inputs", [], "The request is not valid: inputs: List should have at least 1 item *"),
    with_inputs(
        "too many inputs", columns() * 30, "The request is not valid: inputs: List should have at most 128 items *"
    ),
    Case("an input of null", b'{"inputs": [null]}', 400, "The request is not valid: inputs.0: Input should be *"),
    with_field("an id of a number", "The request is not valid: id: Input should be a valid string.", id=7),
    with_field("parameters of a list", "The request is not valid: parameters: Input should be *", parameters=[]),
    with_field("outputs of an object", "The request is not valid: outputs: Input should be a valid list.", outputs={}),
    *(
        with_column(f"no {key}", without(key), f"The request is not valid: inputs.3.{key}: Field required.")
        for key in ("name", "shape", "datatype")
    ),
    with_column("no data", without("data"), "Input 3 must have data or binary_data_size; neither of them is in it."),
    with_column(
        "data twice", tensor("age_years", 10) | sized(8), "Input 3 must have data or binary_data_size; both of them *"
    ),
    with_column(
        "data of text", without("data") | {"data": MARKER}, "The request is not valid: inputs.3.data: Input should be *"
    ),
    with_inputs(
        "a name twice", [*columns(), tensor("age_years", 1)], "Input 5 has the name of another input: each name is *"
    ),
    # Confidence
    *(
        with_field(f"confidence {value}", f"The request is not valid: parameters.confidence: {rule}", parameters=asked)
        for value, rule in ((0.4, "*equal to 0.5."), (1, "*equal to 0.99."), ("0.9", "*number."), (True, "*number."))
        for asked in ({"confidence": value},)
    ),
    # Outputs
    with_field(
        "an output that is not known",
        "Output 0 is not known: price, lower, upper, prediction_id are known.",
        outputs=[{"name": MARKER}],
    ),
    with_field(
        "an output twice",
        "Output 1 has the name of another output: each name is expected once.",
        outputs=[{"name": "price"}] * 2,
    ),
    with_field("an output without a name", "The request is not valid: outputs.0.name: Field required.", outputs=[{}]),
    with_field(
        "binary_data of a number",
        "The request is not valid: outputs.0.parameters.binary_data: Input should be a valid boolean.",
        outputs=[{"name": "price", "parameters": {"binary_data": 1}}],
    ),
    with_field(
        "binary_data_output of a text",
        "The request is not valid: parameters.binary_data_output: Input should be a valid boolean.",
        parameters={"binary_data_output": "true"},
    ),
    # Names and shapes
    with_column("a missing column", None, "An input is missing: age_years."),
    with_inputs(
        "two missing columns", columns(age_years=None, bedrooms=None), "An input is missing: bedrooms, age_years."
    ),
    with_inputs(
        "a column that is not known",
        [*columns(), tensor(MARKER, 1)],
        "Input 5 is not known: no version in service has a column of this name.",
    ),
    with_column("no dimension", tensor("age_years", 10, shape=[]), SHAPE),
    with_column("two columns of one", tensor("age_years", 10, 11, shape=[1, 2]), SHAPE),
    with_column("three dimensions", tensor("age_years", 10, shape=[1, 1, 1]), SHAPE),
    with_column(
        "a negative dimension", tensor("age_years", 10, shape=[-1]), "*inputs.3.shape.0: Input should be greater*"
    ),
    with_column(
        "a dimension of text", tensor("age_years", 10, shape=["1"]), "*inputs.3.shape.0: Input should be a valid*"
    ),
    with_column(
        "a broken dimension", tensor("age_years", 10, shape=[1.5]), "*inputs.3.shape.0: Input should be a valid*"
    ),
    with_column(
        "nine dimensions", tensor("age_years", 10, shape=[1] * 9), "*inputs.3.shape: List should have at most 8*"
    ),
    with_column(
        "another number of rows",
        tensor("age_years", 10, 11),
        "The inputs have different numbers of rows: input 3 has 2, input 0 has 1.",
    ),
    with_inputs("no rows", [tensor(name, shape=[0]) for name in HOUSE], "The inputs have 0 rows: 1 to 4 are expected."),
    with_inputs("too many rows", columns(*[HOUSE] * 5), "The inputs have 5 rows: 1 to 4 are expected."),
    with_inputs(
        "more rows than there are atoms",
        [tensor(name, 1, shape=[10**18]) for name in HOUSE],
        "The inputs have 1,000,000,000,000,000,000 rows: 1 to 4 are expected.",
    ),
    with_column(
        "fewer elements than the shape",
        tensor("age_years", shape=[1]),
        "The data of the input age_years does not have its shape: 1 elements are expected.",
    ),
    with_column(
        "more elements than the shape", tensor("age_years", 1, 2, shape=[1]), "The data of the input age_years *"
    ),
    with_column(
        "a ragged nesting", tensor("age_years", [1], [], shape=[1, 1]), "The data of the input age_years does *"
    ),
    with_column("a nesting too deep", tensor("age_years", [[1]], shape=[1, 1]), NUMBER),
    # Datatypes and values
    with_column(
        "a datatype that is not known",
        tensor("age_years", 10, datatype=MARKER),
        f"The datatype of the input age_years is not valid: {KINDS} or BYTES is expected.",
    ),
    with_column(
        "a number as text",
        tensor("age_years", "10", datatype="BYTES"),
        f"The datatype of the input age_years is not valid: {KINDS} is expected, not BYTES.",
    ),
    with_column(
        "BYTES of numbers", tensor("age_years", 10, datatype="BYTES"), "An element of the input age_years is *"
    ),
    with_column("FP64 of text", tensor("age_years", MARKER), NUMBER),
    with_column("FP64 of true", tensor("age_years", *[True]), NUMBER),
    with_column("FP64 of an object", tensor("age_years", {}), NUMBER),
    with_column(
        "INT64 with a fraction",
        tensor("age_years", 1.5, datatype="INT64"),
        "An element of the input age_years is not valid: INT64 is expected.",
    ),
    with_column("an element of null", tensor("age_years", None), f"{AGES} missing or not a finite number."),
    with_column("below its bounds", tensor("age_years", -1), f"{AGES} below 0."),
    with_column("above its bounds", tensor("age_years", 501), f"{AGES} above 500."),
    with_inputs(
        "a row that is not the first",
        columns(HOUSE, HOUSE | {"bedrooms": 2.5}, HOUSE),
        "The value of row 1 of the input bedrooms is not a whole number.",
    ),
    with_inputs(
        "a living area of 0",
        columns(HOUSE | {"square_feet": 0}),
        "The value of row 0 of the input square_feet is not above 0.",
    ),
    # One input for all columns
    with_inputs("one input with six columns", [tensor("x", *MATRIX, 1, shape=[1, 6], datatype="FP32")], ONE),
    with_inputs("one input of integers", [tensor("x", *MATRIX, shape=[1, 5], datatype="INT64")], ONE),
    with_inputs("one input of BYTES", [tensor("x", *MATRIX, shape=[1, 5], datatype="BYTES")], ONE),
    with_inputs(
        "one input with too few elements",
        [tensor(MARKER, *MATRIX, shape=[2, 5], datatype="FP32")],
        "The data of the input of all columns does not have its shape: 10 elements are expected.",
    ),
    with_inputs(
        "one input with a bad value",
        [tensor(MARKER, *MATRIX[:3], -1, 5, shape=[1, 5], datatype="FP32")],
        f"{AGES} below 0.",
    ),
    # Binary tensors
    *(
        with_length(f"a length of {length!r}", length, NO_LENGTH)
        for length in ("x", "-1", "+1", "1.0", "1e2", "0x10", "12, 12", "9" * 11, "9" * 6_000)
    ),
    with_length(
        "a length beyond the body",
        "99999",
        f"The header {LENGTH} is not valid: the body has {len(BINARY):,} bytes, which is less.",
    ),
    with_length("a raw request", "0", "A raw request (Inference-Header-Content-Length: 0) has one input, and this *"),
    with_length("a length that is too short", str(len(HEAD) - 1), NOT_JSON + "*"),
    with_length("a length that is too long", str(len(HEAD) + 1), NOT_JSON + "*"),
    with_length(
        "bytes that are missing",
        str(len(HEAD)),
        "The binary data is too short: 39 bytes follow the JSON, input 4 ends later.",
        BINARY[:-1],
    ),
    with_length(
        "bytes that are too many",
        str(len(HEAD)),
        "The binary data is too long: 41 bytes follow the JSON, and the inputs have 40.",
        BINARY + b"x",
    ),
    Case(
        "binary tensors without the header", HEAD, 400, "The binary data is too short: 0 bytes follow the JSON, input *"
    ),
    with_binary(
        "a size that is not that of the shape",
        tensor("age_years", 10),
        bytes(7),
        "The input age_years has 7 bytes: 8 are expected of 1 elements of FP64.",
    ),
    with_column(
        "a negative size",
        without("data") | sized(-1),
        "*inputs.3.parameters.binary_data_size: Input should be greater *",
    ),
    with_column(
        "a size of text", without("data") | sized("8"), "*inputs.3.parameters.binary_data_size: Input should be *"
    ),
    with_binary(
        "NaN in binary",
        tensor("age_years", 10),
        packed([float("nan")], "FP64"),
        f"{AGES} missing or not a finite number.",
    ),
    with_binary(
        "infinity in binary",
        tensor("age_years", 10, datatype="FP32"),
        packed([float("inf")], "FP32"),
        f"{AGES} missing or not a finite number.",
    ),
    with_binary(
        "BYTES that are cut off",
        tensor("age_years", 10, datatype="BYTES"),
        packed(["10"], "BYTES")[:-1],
        "The bytes of the input age_years are not valid: 1 elements with their lengths are expected.",
    ),
    with_binary(
        "BYTES with a length of 4 GB",
        tensor("age_years", 10, datatype="BYTES"),
        b"\xff\xff\xff\xff10",
        "The bytes of the input age_years are not valid: 1 elements *",
    ),
    with_binary(
        "BYTES with two elements for one",
        tensor("age_years", 10, datatype="BYTES"),
        packed(["1", "2"], "BYTES"),
        "The bytes of the input age_years are not valid: 1 elements *",
    ),
    with_binary(
        "BYTES that are not UTF-8",
        tensor("age_years", 10, datatype="BYTES"),
        packed([b"\xff"], "BYTES"),
        "Element 0 of the input age_years is not valid UTF-8.",
    ),
    # Sizes and codings
    Case("a body that is too large", GOOD.ljust(MAX_BYTES + 1), 413, "The body is too large: at most 16,384 bytes *"),
    Case(
        "a bomb of gzip",
        gzip.compress(bytes(10_000_000)),
        413,
        "The body is too large: at most 16,384 bytes are accepted, also when it is decompressed.",
        {"Content-Encoding": "gzip"},
    ),
    Case(
        "a bomb of deflate",
        zlib.compress(bytes(10_000_000)),
        413,
        "The body is too large: at most 16,384 bytes are accepted, also when it is decompressed.",
        {"Content-Encoding": "deflate"},
    ),
    Case(
        "gzip that is none",
        GOOD,
        400,
        "Content-Encoding is gzip, but the body is not valid gzip: the data is damaged, or has another format.",
        {"Content-Encoding": "gzip"},
    ),
    Case(
        "gzip that is cut off",
        gzip.compress(GOOD)[:-1],
        400,
        "Content-Encoding is gzip, but the body is not valid gzip: the end of the data is missing.",
        {"Content-Encoding": "gzip"},
    ),
    Case(
        "a coding that is not known", GOOD, 415, "The Content-Encoding is not supported: *", {"Content-Encoding": "br"}
    ),
    # Paths and methods
    Case(
        "another model",
        GOOD,
        404,
        "This model is not known; the model of this service is appraiser.",
        path=INFER.replace("appraiser", MARKER),
    ),
    Case(
        "another version",
        GOOD,
        404,
        "This version is not in service; in service are v1.2.3 (/models has more).",
        path="/v2/models/appraiser/versions/v9.9.9/infer",
    ),
    Case(
        "a version of a number",
        GOOD,
        404,
        "This version is not in service; *",
        path="/v2/models/appraiser/versions/1/infer",
    ),
    Case("an empty name", GOOD, 404, "This path does not exist; /docs lists the endpoints.", path="/v2/models//infer"),
    Case(
        "an empty version",
        GOOD,
        404,
        "This path does not exist; /docs lists the endpoints.",
        path="/v2/models/appraiser/versions//infer",
    ),
    Case("another action", GOOD, 404, "This path does not exist; *", path="/v2/models/appraiser/explain"),
    Case("another protocol", b"", 404, "This path does not exist; *", path="/v2/repository/index"),
    *(
        Case(f"{method} of infer", b"", 405, "This path does not accept this method; *", method=method)
        for method in ("GET", "PUT", "DELETE", "PATCH")
    ),
    *(
        Case(f"POST of {path}", GOOD, 405, "This path does not accept this method; *", path=path)
        for path in ("/v2", "/v2/health/live", "/v2/models", "/v2/models/appraiser", "/v2/models/appraiser/ready")
    ),
    *(
        Case(f"GET of {path}", b"", status, error, path=path, method="GET")
        for path, status, error in (
            ("/v2/models/other", 404, "This model is not known; the model of this service is appraiser."),
            ("/v2/models/other/ready", 404, "This model is not known; *"),
            ("/v2/models/appraiser/versions/v0.0.1", 404, "This version is not in service; *"),
            ("/v2/models/appraiser/versions/v0.0.1/ready", 404, "This version is not in service; *"),
            ("/v2/health", 404, "This path does not exist; *"),
        )
    ),
)


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(published: Artifact, request: pytest.FixtureRequest) -> FlaskClient:
    update = {"prediction_middleware": request.param, "max_inference_rows": ROWS, "max_body_bytes": MAX_BYTES}
    return fake_app(published.manifest, settings=DEFAULTS.model_copy(update=update)).test_client()


@pytest.mark.parametrize("case", CASES, ids=[case.name[:40] for case in CASES])
def test_a_wrong_request_has_its_status_and_its_sentence(client: FlaskClient, case: Case) -> None:
    response = client.open(case.path, method=case.method, data=case.body, headers=case.headers)

    assert (response.status_code, response.content_type) == (case.status, "application/json"), response.text
    answer = json.loads(response.data)
    assert list(answer) == ["error"]
    assert re.fullmatch(re.escape(case.error).replace(r"\*", ".*"), answer["error"]), answer["error"]
    assert MARKER not in response.text
    assert "Content-Encoding" not in response.headers
    assert ("Accept-Encoding" in response.headers) == (case.status == 415)


def test_there_are_at_least_sixty_of_them() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60

"""tritonclient[http], sync and aio, against a running service: `python triton.py URL`, in its own environment.

Each combination of binary and JSON, of codings of request and answer, with and without version, outputs and id, prices
the houses as `/predict` does, to the last bit.
"""

import asyncio
import json
import sys
import urllib.request
from itertools import product
from typing import Any, Final

import numpy as np
import tritonclient.http as sync
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

MODEL: Final = "appraiser"
FIELDS: Final = ("square_feet", "bedrooms", "bathrooms", "age_years", "distance_to_city")
OUTPUTS: Final = ("price", "lower", "upper")
HOUSES: Final = [
    (2000.0, 3.0, 2.0, 10.0, 5.0),
    (1500.5, 2.0, 1.25, 20.0, 10.1),
    (9000.0, 4.0, 3.0, 5.5, 3.3),
]
DATATYPES: Final = {"FP64": np.float64, "FP32": np.float32}
CODINGS: Final = (None, "gzip", "deflate")
SWITCH: Final = (True, False)


def by_predict(url: str) -> list[tuple[float, float, float]]:
    """The prices of HOUSES as /predict answers them."""
    return [predict(url, dict(zip(FIELDS, house, strict=True))) for house in HOUSES]


def predict(url: str, house: dict[str, float]) -> tuple[float, float, float]:
    """Price, lower and upper bound of a house."""
    request = urllib.request.Request(
        f"http://{url}/predict", json.dumps(house).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310 -- the same
        answer = json.load(response)
    interval = answer["confidence_interval"]
    return answer["predicted_price"], interval["lower"], interval["upper"]


def columns(shape: list[int], datatype: str, *, is_binary: bool) -> list[Any]:
    """An input for each column."""
    found = []
    for name, values in zip(FIELDS, zip(*HOUSES, strict=True), strict=True):
        tensor = sync.InferInput(name, shape, datatype)
        tensor.set_data_from_numpy(np.array(values, DATATYPES[datatype]).reshape(shape), binary_data=is_binary)
        found.append(tensor)
    return found


def matrix(*, is_binary: bool) -> list[Any]:
    """One input for all columns."""
    tensor = sync.InferInput("houses", [len(HOUSES), len(FIELDS)], "FP32")
    tensor.set_data_from_numpy(np.array(HOUSES, np.float32), binary_data=is_binary)
    return [tensor]


def cases() -> list[dict[str, Any]]:
    """The arguments of `infer`, in every combination."""
    count = len(HOUSES)
    inputs = [
        tensors
        for is_binary in SWITCH
        for tensors in (
            columns([count], "FP64", is_binary=is_binary),
            columns([count, 1], "FP64", is_binary=is_binary),
            matrix(is_binary=is_binary),
        )
    ]
    asked = [None, *([sync.InferRequestedOutput(name, binary_data=flag) for name in OUTPUTS] for flag in SWITCH)]
    combined = product(inputs, asked, CODINGS, CODINGS, ("", "champion"), ("", "a name"))
    return [
        {
            "model_name": MODEL,
            "inputs": tensors,
            "outputs": outputs,
            "request_compression_algorithm": request,
            "response_compression_algorithm": response,
            "model_version": version,
            "request_id": name,
        }
        for tensors, outputs, request, response, version, name in combined
    ]


def check(result: Any, case: dict[str, Any], expected: list[tuple[float, float, float]]) -> None:  # noqa: ANN401
    """Fail unless the answer has the prices of /predict, to the bit, and what else it should."""
    observed = [result.as_numpy(name) for name in OUTPUTS]
    is_matrix = len(case["inputs"]) == 1
    assert all(values.dtype == np.float64 and values.shape == (len(HOUSES),) for values in observed), case
    assert list(zip(*(values.tolist() for values in observed), strict=True)) == expected, (case, is_matrix)
    answer = result.get_response()
    assert answer.get("id", "") == case["request_id"], case
    assert answer["model_name"] == MODEL, case


def refuses(call: Any, *arguments: Any, status: str, **named: Any) -> None:  # noqa: ANN401 -- any of the client
    """Fail unless the client raises its own error, with the status and the sentence of the service."""
    error: Any = None
    try:
        call(*arguments, **named)
    except InferenceServerException as found:
        error = found
    assert error is not None, f"expected {status}"
    assert error.status() == status, error
    assert error.message(), error


def check_server(client: Any) -> None:  # noqa: ANN401 -- the packages have no types
    """Health, metadata and refusals."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "champion")
    assert not client.is_model_ready(MODEL, "v99.0.0")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(MODEL)
    assert [tensor["name"] for tensor in metadata["inputs"]][: len(FIELDS)] == list(FIELDS)
    assert [tensor["name"] for tensor in metadata["outputs"]] == list(OUTPUTS)
    inputs = columns([len(HOUSES)], "FP64", is_binary=True)
    refuses(client.infer, "another", inputs, status="404")
    refuses(client.infer, MODEL, inputs, model_version="v99.0.0", status="404")
    refuses(client.infer, MODEL, inputs[1:], status="400")
    refuses(client.infer, MODEL, inputs, outputs=[sync.InferRequestedOutput("other")], status="400")
    refuses(client.get_model_metadata, "another", status="404")


async def check_aio(url: str, found: list[dict[str, Any]], expected: list[tuple[float, float, float]]) -> None:
    """The same cases by the client for asyncio."""
    async with aio.InferenceServerClient(url) as client:
        assert await client.is_server_ready()
        for case in found:
            check(await client.infer(**case), case, expected)


def main(url: str) -> None:
    """Run all of it."""
    expected, found = by_predict(url), cases()
    client = sync.InferenceServerClient(url)
    check_server(client)
    for case in found:
        check(client.infer(**case), case, expected)
    client.close()
    asyncio.run(check_aio(url, found, expected))
    print(f"tritonclient: {2 * len(found):,} requests, sync and aio, have the prices of /predict")


if __name__ == "__main__":
    main(sys.argv[1])

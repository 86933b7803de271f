"""KServe's InferenceRESTClient against a running service: `python kserve_client.py URL`, in its own environment."""

import asyncio
import sys
from itertools import product
from typing import Any, Final

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferOutput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

MODEL: Final = "appraiser"
FIELDS: Final = ("square_feet", "bedrooms", "bathrooms", "age_years", "distance_to_city")
OUTPUTS: Final = ("price", "lower", "upper")
HOUSES: Final = [(2000.0, 3.0, 2.0, 10.0, 5.0), (1500.5, 2.0, 1.25, 20.0, 10.1), (9000.0, 4.0, 3.0, 5.5, 3.3)]
SWITCH: Final = (True, False)


async def by_predict(url: str) -> list[tuple[float, float, float]]:
    """The prices of HOUSES as /predict answers them."""
    async with httpx.AsyncClient() as client:
        answers = [
            (await client.post(f"{url}/predict", json=dict(zip(FIELDS, house, strict=True)))).json() for house in HOUSES
        ]
    return [(found["predicted_price"], *found["confidence_interval"].values()) for found in answers]


def inputs(*, is_binary: bool, is_column: bool) -> list[Any]:
    """An input for each column."""
    found = []
    for name, values in zip(FIELDS, zip(*HOUSES, strict=True), strict=True):
        shape = [len(HOUSES), 1] if is_column else [len(HOUSES)]
        tensor = InferInput(name, shape, "FP64")
        tensor.set_data_from_numpy(np.array(values).reshape(shape), binary_data=is_binary)
        found.append(tensor)
    return found


async def check_health(client: Any, url: str) -> None:  # noqa: ANN401 -- the package has no types
    """Health, and an error with the sentence of the service."""
    assert await client.is_server_live(url) is True
    assert await client.is_server_ready(url) is True
    assert await client.is_model_ready(url, MODEL) is True
    for asked, model, sentence in (
        (InferRequest(MODEL, inputs(is_binary=False, is_column=False)[1:]), MODEL, "An input is missing: square_feet."),
        (InferRequest("other", inputs(is_binary=False, is_column=False)), "other", "This model is not known"),
    ):
        observed = ""
        try:
            await client.infer(url, asked, model_name=model)
        except httpx.HTTPStatusError as error:
            observed = str(error)
        assert sentence in observed, f"expected {sentence}, observed {observed}"


async def main(url: str) -> None:
    """Run all of it."""
    expected = await by_predict(url)
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    await check_health(client, url)
    count = 0
    for is_binary, is_column, asked, name in product(SWITCH, SWITCH, (None, *SWITCH), (None, "a name")):
        request = InferRequest(
            model_name=MODEL,
            infer_inputs=inputs(is_binary=is_binary, is_column=is_column),
            request_id=name,
            request_outputs=None
            if asked is None
            else [RequestedOutput(output, {"binary_data": asked}) for output in OUTPUTS],
        )
        response = await client.infer(url, request, model_name=MODEL)
        found: list[InferOutput] = response.outputs
        observed = zip(*(output.as_numpy().tolist() for output in found), strict=True)
        assert [output.name for output in found] == list(OUTPUTS)
        assert list(observed) == expected
        assert name is None or response.id == name
        count += 1
    await client.close()
    print(f"KServe: {count} requests have the prices of /predict")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

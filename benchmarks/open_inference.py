"""Rows a second of binary tensors beside batches: `python -m benchmarks.open_inference [--rounds N] [--seconds S]`.

Two workers on a service of its own, with everything on. Requests for 10,000 houses in five binary tensors to
`/v2/models/appraiser/infer`, with binary outputs, and batches of 1,000 to `/predict/batch` take turns. The clients
send bytes that were made before and do not read the answers but for their lengths.
"""

import argparse
import contextlib
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from benchmarks.compare import ours, run, up
from benchmarks.request import house
from pricing.house import FEATURES

CLIENTS: Final = 4
BATCH, TENSORS = "/predict/batch", "/v2/models/appraiser/infer"
ROWS: Final = {BATCH: 1_000, TENSORS: 10_000}


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    found: dict[str, list[float]] = {path: [] for path in ROWS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        run([sys.executable, "-c", "import cli; cli.main()", "train"], {"APPRAISER_ARTIFACTS": f"{folder}/artifacts"})
        port = stack.enter_context(up(ours(), Path(folder)))[1]
        for _ in range(options.rounds):
            for path, rates in found.items():
                rates.append(rate(port, path, options.seconds))
    ratio = statistics.median(many / few for few, many in zip(*found.values(), strict=True))
    for path, rates in found.items():
        print(f"{path}, {ROWS[path]:,} houses a request: {statistics.median(rates):,.0f} houses/s")
    print(f"{ratio:.2f} times as many, the median of {options.rounds} pairs")


def rate(port: int, path: str, seconds: float) -> float:
    """Houses a second."""
    body, header = batch() if path == BATCH else tensors()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{header}Content-Length: {len(body)}\r\n\r\n"
    begun = time.perf_counter()
    counts = [0] * CLIENTS

    def ask(number: int) -> None:
        counts[number] = requests(port, head.encode() + body, begun + seconds)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) * ROWS[path] / (time.perf_counter() - begun)


def requests(port: int, request: bytes, end: float) -> int:
    """Ask on one connection until then; returns how often. Every answer is 200."""
    count, buffer = 0, bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as client:
        while time.perf_counter() < end:
            client.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(1 << 16)
            head, _, rest = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise AssertionError(data)
            left = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]) - len(rest)
            while left > 0:
                left -= client.recv_into(buffer, min(left, len(buffer)))
            count += 1
    return count


def batch() -> tuple[bytes, str]:
    """The body of a batch, and its header."""
    return orjson.dumps({"houses": [house(number) for number in range(ROWS[BATCH])]}), ""


def tensors() -> tuple[bytes, str]:
    """The body of five tensors in binary, and its headers."""
    count = ROWS[TENSORS]
    houses = [house(number) for number in range(count)]
    columns = [np.array([found[name] for found in houses], "<f8").tobytes() for name in FEATURES]
    inputs = [
        {"name": name, "shape": [count], "datatype": "FP64", "parameters": {"binary_data_size": 8 * count}}
        for name in FEATURES
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head + b"".join(columns), f"Inference-Header-Content-Length: {len(head)}\r\n"


if __name__ == "__main__":
    main()

"""From the bytes of a request to its WSGI environ: `python -m benchmarks.environ`.

Microseconds, medians of rounds: a prediction's request in one piece, in two pieces cut in the header or before the
body, with the header fields of a browser, in chunks, and with a header that has come before.
"""

import statistics
import time
from typing import Final

from worker.http_rules import Rules
from worker.parser import KnownHeads, RequestParser
from worker.wsgi import shared_by

ROUNDS: Final = 25
REQUESTS: Final = 5_000
BODY: Final = b'{"square_feet":2000,"bedrooms":3,"bathrooms":2,"age_years":10,"distance_to_city":5}'
FEW: Final = b"Host: localhost:8000\r\nContent-Type: application/json\r\n"
MANY: Final = FEW + b"".join(b"X-Field-%d: the value of a field\r\n" % number for number in range(12))


def request(fields: bytes) -> bytes:
    """A prediction's request."""
    return b"POST /predict HTTP/1.1\r\n" + fields + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


WHOLE: Final = request(FEW)
CHUNKED: Final = b"POST /predict HTTP/1.1\r\n" + FEW + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY
KNOWN: Final = "in one piece, header known"
KINDS: Final = {
    KNOWN: [WHOLE],
    "in one piece": [WHOLE],
    "in two, cut in the header": [WHOLE[:60], WHOLE[60:]],
    "in two, cut before the body": [WHOLE[: -len(BODY)], BODY],
    "with twelve fields more": [request(MANY)],
    "in chunks": [CHUNKED + b"\r\n0\r\n\r\n"],
}


def main() -> None:
    """Measure and print."""
    base: dict[str, object] = {f"wsgi.name{number}": number for number in range(10)}
    shared, rules = shared_by(base, ("127.0.0.1", 8000), ("127.0.0.1", 50000), ""), Rules()
    print(f"{ROUNDS} rounds of {REQUESTS:,} requests, microseconds a request: median (tenths 1 and 9)")
    for kind, pieces in KINDS.items():
        seconds = []
        known = KnownHeads.none()
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            for _ in range(REQUESTS):
                parser = RequestParser(rules, shared, known)
                for piece in pieces:
                    rest = piece if parser.environ else parser.feed_head(piece)
                    if parser.environ:
                        if kind == KNOWN and not parser.is_known:
                            parser.remember()
                        parser.feed_body(rest)
                parser.request()
            seconds.append((time.perf_counter() - begun) / REQUESTS * 1e6)
        tenths = statistics.quantiles(seconds, n=10)
        print(f"{kind:28} {statistics.median(seconds):.1f} ({tenths[0]:.1f} to {tenths[-1]:.1f})")


if __name__ == "__main__":
    main()

"""Our parser against gunicorn's, on random requests: `python -m benchmarks.differential [--seconds N] [--seed S]`.

Requests are made from sound and unsound pieces, or are gunicorn's corpus with some bytes changed; each is read whole
and in random pieces. A difference is a request that gunicorn refuses and our parser takes, one that both frame or read
otherwise, or one that pieces change; each is printed, and any ends the command with exit code 1. What our parser
refuses and gunicorn takes is counted by its status, with the first of each as an example.
"""

import argparse
import random
import sys
import time
from collections import Counter
from typing import Final

from gunicorn.asgi.parser import ParseError
from gunicorn.http.errors import ParseException

from tests.corpus import cases, with_host
from tests.parsed import OF_A_PROXY, RULES, Parsed, gunicorns, ours
from worker.http_rules import MalformedError, Rules

Outcome = Parsed | int | None  # of a part of a request, None; of what is refused, the status
REFUSED: Final = 400

METHODS: Final = [b"GET", b"POST", b"PUT", b"M-SEARCH", b"GE", b"get", b"A" * 21, b"CONNECT", b"OPTIONS", b"PRI"]
TARGETS: Final = [b"/", b"/a?b=c", b"/%41", b"*", b"//x", b"/a#b", b"http://h/", b"/\xe9", b"/a b", b"h:1", b"http://["]
VERSIONS: Final = [
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1.1 ",
]
NAMES: Final = [
    *(b"Host", b"Accept", b"X-A", b"x_a", b"Connection", b"Content-Type", b"Content-Length", b"Transfer-Encoding"),
    *(b"Expect", b"Upgrade", b"TE", b"X A", b"", b"X-Forwarded-Proto", b"X-Forwarded-Ssl", b"Cookie", b"Trailer"),
    *(b"A!#$%&'*+-.^`|~9", b"Transfer_Encoding", b" Content-Length", b"content-length", b"transfer-encoding"),
]
VALUES: Final = [
    *(b" a", b"", b"\t b \t", b" keep-alive", b" close", b" 4", b" 0", b" 5", b" 04", b" chunked", b" \xff", b"4"),
    *(b" a\x00b", b" a\rb", b" a\nb", b" \x7f", b" 4, 4", b" https", b" on", b" upgrade", b" gzip, chunked", b" +4"),
    *(b" chunked, chunked", b" identity", b" identity, chunked", b" xchunked", b" CHUNKED \t", b" 100-continue"),
    *(b" 18446744073709551616", b" keep-alive, close", b" websocket", b" chunked;a"),
]
ENDS: Final = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n\r\n", b"\r\n "]
BODIES: Final = [
    *(
        b"",
        b"body",
        b"bo",
        b"bodyGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"4\r\nbody\r\n0\r\n\r\n",
        b"4;a=b\r\nbody\r\n0\r\n\r\n",
    ),
    *(
        b'04 ;a="b"\r\nbody\r\n000\r\nX: y\r\n\r\nGET',
        b"4\r\nbodyx\r\n0\r\n\r\n",
        b"4\nbody\r\n0\r\n\r\n",
        b"-4\r\nbody\r\n0\r\n\r\n",
    ),
    *(
        b"0\r\nContent-Length: 4\r\n\r\n",
        b"0\r\nX: y\r\nY : z\r\n\r\n",
        b"4\r\nbody\r\n0\r\n\r",
        b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ),
    *(b"ffffffffffffffff\r\n", b"4 \r\nbody\r\n0\r\n\r\n", b"4\r\nbody\r\n0;a\r\n\r\n", b"0\r\n X: y\r\n\r\n"),
]
BYTES: Final = [
    b"\r\n",
    b"\n",
    b"\r",
    b":",
    b" ",
    b"\t",
    b"\0",
    b"Content-Length: 4\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b";",
]
CORPUS: Final = [with_host(case.sent) for kind in ("invalid", "valid") for case in cases(kind)]


def made(chance: random.Random) -> bytes:
    """A request of random pieces."""
    lines = [b" ".join([chance.choice(METHODS), chance.choice(TARGETS), chance.choice(VERSIONS)])]
    lines += [chance.choice(NAMES) + b":" + chance.choice(VALUES) for _ in range(chance.randrange(5))]
    return b"".join(line + chance.choice(ENDS) for line in lines) + b"\r\n" + chance.choice(BODIES)


def changed(chance: random.Random, data: bytes) -> bytes:
    """The same with some bytes replaced, removed or added."""
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(data) + 1)
        new = chance.choice(BYTES) if chance.random() < 0.7 else chance.randbytes(chance.randrange(4))  # noqa: PLR2004
        data = data[:start] + new + data[start + chance.randrange(6) :]
    return data


def read_by_us(data: bytes, rules: Rules, *cuts: int) -> Outcome:
    """What our parser makes of it."""
    try:
        return ours(data, *cuts, rules=rules)
    except MalformedError as error:
        return error.status


def read_by_gunicorn(data: bytes, rules: Rules) -> Outcome:
    """What gunicorn's parser makes of it."""
    try:
        return gunicorns(data, rules)
    except (ParseError, ParseException, ValueError):
        return REFUSED


def difference(data: bytes, rules: Rules, cuts: list[int]) -> str | None:
    """What is read otherwise, in one line; None if nothing is."""
    found, expected, cut = read_by_us(data, rules), read_by_gunicorn(data, rules), read_by_us(data, rules, *cuts)
    if isinstance(found, Parsed) and found != expected:
        return f"ours {found}, gunicorn's {expected}"
    is_same = cut == found if not isinstance(found, int) else isinstance(cut, int)
    return None if is_same else f"whole {found}, cut at {cuts} {cut}"


def compare(seconds: float, seed: int) -> tuple[int, int, int, Counter[int], dict[int, bytes]]:
    """Requests, those that are read, differences, and what only our parser refuses: by status, with examples."""
    chance = random.Random(seed)  # noqa: S311 -- no secrets
    until = time.monotonic() + seconds
    total = taken = differences = 0
    stricter: Counter[int] = Counter()
    examples: dict[int, bytes] = {}
    while time.monotonic() < until:
        data = made(chance)
        if chance.random() < 0.5:  # noqa: PLR2004
            data = changed(chance, chance.choice(CORPUS) if CORPUS and chance.random() < 0.5 else data)  # noqa: PLR2004
        rules = chance.choice([RULES, OF_A_PROXY])
        cuts = [chance.randrange(1, len(data) + 2) for _ in range(chance.randrange(1, 4))]
        total += 1
        found = read_by_us(data, rules)
        taken += isinstance(found, Parsed)
        if isinstance(found, int) and isinstance(read_by_gunicorn(data, rules), Parsed):
            stricter[found] += 1
            examples.setdefault(found, data)
        if (line := difference(data, rules, cuts)) is not None:
            differences += 1
            print(f"{data!r:.1000}: {line:.1000}")
    return total, taken, differences, stricter, examples


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total, taken, differences, stricter, examples = compare(options.seconds, options.seed)
    print(f"{total:,} requests, seed {options.seed}: {taken:,} taken, {differences} differences")
    for status, count in sorted(stricter.items()):
        print(f"refused with {status} and taken by gunicorn: {count:,}, the first {examples[status]!r:.300}")
    sys.exit(differences > 0)


if __name__ == "__main__":
    main()

"""The deployment pointer: which versions answer, which client is on which arm, and what may follow.

Nothing here touches a file: `Store` reads and writes the pointer, and seals the versions that it names.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from pricing.artifacts.manifest import Sha256, Version
from pricing.errors import DeploymentChangedError, NoPreviousError, NothingDeployedError, SplitError
from pricing.format import Stored

BUCKETS: Final = 100  # one for each percent

Role = Literal["champion", "challenger", "previous"]
Bound = Annotated[int, Field(ge=0, le=BUCKETS)]
Ranges = tuple[tuple[Bound, Bound], ...]


class DeploymentPlan(NamedTuple):
    """The next deployment: a pointer without its generation and its seals."""

    champion: str
    previous: str | None
    split: Mapping[str, Ranges]
    split_since: int | None


class Deployment(Stored):
    """Which versions answer. The pointer seals each version by the digest of its manifest, which seals the graph."""

    generation: int = Field(ge=1)
    champion: Version
    previous: Version | None = None
    split: dict[Version, Ranges] = Field(
        default_factory=dict, description="Buckets of each arm, [from, to); empty: all are the champion's."
    )
    split_since: int | None = Field(default=None, description="Generation that began the split; its salt.")
    sha256: dict[Version, Sha256] = Field(description="Of the manifest.json of each version named here.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        held = sorted(
            bucket for ranges in self.split.values() for start, stop in ranges for bucket in range(start, stop)
        )
        if self.split and (held != list(range(BUCKETS)) or self.champion not in self.split or self.split_since is None):
            msg = f"the split must give each of {BUCKETS} buckets to one arm, one of them the champion"
            raise ValueError(msg)
        if unsealed := set(self.named()) - set(self.sha256):
            msg = f"the sha256 is missing of {', '.join(sorted(unsealed))}"
            raise ValueError(msg)
        return self

    def named(self) -> tuple[str, ...]:
        """Every version that must stay available, champion first, each once."""
        return tuple(dict.fromkeys(v for v in (self.champion, self.previous, *self.split) if v is not None))

    def role(self, version: str) -> Role:
        """The role of a version that is named here."""
        if version == self.champion:
            return "champion"
        return "challenger" if version in self.split else "previous"

    @property
    def arms(self) -> dict[str, int]:
        """Weight in percent of each version that answers requests without a version."""
        return {v: _size(ranges) for v, ranges in self.split.items()} or {self.champion: BUCKETS}

    def buckets(self) -> tuple[str, ...]:
        """The version of each bucket."""
        found = [self.champion] * BUCKETS
        for version, ranges in self.split.items():
            for start, stop in ranges:
                found[start:stop] = [version] * (stop - start)
        return tuple(found)


def bucket_of(client: bytes, split_since: int) -> int:
    """The bucket of a client, from 0 to 99: the same in every process, another draw for every new split."""
    digest = blake2b(client, digest_size=8, key=b"%d" % split_since).digest()
    return int.from_bytes(digest) % BUCKETS


def promote(current: Deployment | None, version: str) -> DeploymentPlan:
    """`version` answers everybody; the former champion becomes the previous one."""
    if current is None:
        return DeploymentPlan(version, None, {}, None)
    return DeploymentPlan(version, current.champion if current.champion != version else current.previous, {}, None)


def promote_challenger(current: Deployment | None, champion: str, challenger: str) -> DeploymentPlan:
    """The challenger answers all clients, if the champion that it was judged against still is one.

    Raises DeploymentChangedError when another champion was promoted meanwhile: these two were not compared.
    """
    if current is None or current.champion != champion:
        now = "no version" if current is None else current.champion
        msg = f"{challenger} was judged against {champion}, but {now} is the champion now; {challenger} is not deployed"
        raise DeploymentChangedError(msg)
    return promote(current, challenger)


def roll_back(current: Deployment | None) -> DeploymentPlan:
    """The previous champion answers everybody again. Raises NoPreviousError."""
    if current is None or current.previous is None:
        msg = "no previous version is recorded; `appraiser promote VERSION` deploys one by name"
        raise NoPreviousError(msg)
    return promote(current, current.previous)


def restored(old: Deployment) -> DeploymentPlan:
    """The deployment of `old`, with its split."""
    return DeploymentPlan(old.champion, old.previous, old.split, old.split_since)


def split_traffic(current: Deployment | None, weights: Mapping[str, int]) -> DeploymentPlan:
    """Clients are split over versions by `weights` in whole percent, which add up to 100; 100 for one ends a split.

    Of a running split as few buckets as possible change hands: a client moves only when its arm shrinks.
    Raises SplitError for weights that are none, NothingDeployedError without a champion.
    """
    if current is None:
        msg = "no version is deployed; `appraiser promote VERSION` deploys the champion of a split"
        raise NothingDeployedError(msg)
    _check_weights(current.champion, weights)
    if len(weights) == 1:
        return DeploymentPlan(current.champion, current.previous, {}, None)
    owners = list(current.buckets())
    kept = {
        version: [b for b, owner in enumerate(owners) if owner == version][:weight]
        for version, weight in weights.items()
    }
    free = iter(sorted(set(range(BUCKETS)).difference(*kept.values())))
    for version, weight in weights.items():
        kept[version] += [next(free) for _ in range(weight - len(kept[version]))]
    split = {version: _ranges(buckets) for version, buckets in kept.items()}
    return DeploymentPlan(current.champion, current.previous, split, current.split_since or current.generation + 1)


def _check_weights(champion: str, weights: Mapping[str, int]) -> None:
    told = " ".join(f"{version}={weight}" for version, weight in weights.items())
    if sum(weights.values()) != BUCKETS or min(weights.values()) < 1:
        msg = f"weights are whole percent, at least 1 each, and add up to {BUCKETS}; got {told}"
        raise SplitError(msg)
    if champion not in weights:
        msg = f"the champion {champion} must be one of the arms; got {told}"
        raise SplitError(msg)


def _size(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def _ranges(buckets: Iterable[int]) -> Ranges:
    """[0, 1, 2, 7] -> ((0, 3), (7, 8))."""
    found: list[tuple[int, int]] = []
    for bucket in sorted(buckets):
        if found and found[-1][1] == bucket:
            found[-1] = (found[-1][0], bucket + 1)
        else:
            found.append((bucket, bucket + 1))
    return tuple(found)

"""The age of a version: how many days ago the last sale was that decided the level of its prices.

1. It counts from `Manifest.valued_as_of`. If the sales have no dates, it counts from the day of the training: they were
   before that, so their age is at least this.
2. A day begins at midnight UTC, and the wall clock decides. If the clock is wrong, the age is wrong, and nothing
   fails: it is a whole number of any sign.
3. An outdated version answers as before, with `outdated` in its answers.
"""

from datetime import UTC, date
from typing import Any, Final, NamedTuple, Self

from pricing.artifacts.manifest import Manifest

NANOSECONDS_A_DAY: Final = 86_400 * 10**9
EPOCH: Final = date(1970, 1, 1).toordinal()
NEVER: Final = 1 << 63
"""Nanoseconds that no wall clock shows."""


class VersionAge(NamedTuple):
    """The age of one version and its limit. `now` is always nanoseconds of the Unix time."""

    version: str
    since: date
    has_dates: bool
    """Whether `since` is a day of sale; otherwise it is the day of the training."""
    max_days: int
    """The version is outdated when it is older; 0 turns that off."""
    outdated_from: int
    """Nanoseconds of the Unix time."""

    @classmethod
    def of(cls, manifest: Manifest, max_days: int) -> Self:
        """The age of the version of this manifest."""
        valued_as_of = manifest.valued_as_of
        since = valued_as_of or manifest.created_at.astimezone(UTC).date()
        end = (since.toordinal() - EPOCH + max_days + 1) * NANOSECONDS_A_DAY if max_days else NEVER
        return cls(manifest.version, since, valued_as_of is not None, max_days, end)

    def days(self, now: int) -> int:
        """Whole days from `since` to `now`; negative if the clock is behind."""
        return now // NANOSECONDS_A_DAY + EPOCH - self.since.toordinal()

    def outdated(self, now: int) -> dict[str, Any] | None:
        """Return the fields of `service.contract.Outdated`, or None of a version within its limit."""
        if now < self.outdated_from:
            return None
        days = self.days(now)
        which = (
            f"The last sale that {self.version} learned from was on {self.since}"
            if self.has_dates
            else f"{self.version} was trained on {self.since}, on sales without dates"
        )
        msg = f"{which}: {days} days ago, and the limit is {self.max_days}."
        return {"version": self.version, "days": days, "msg": msg}

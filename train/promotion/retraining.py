"""`appraiser retrain`: a challenger on new data, judged against the champion, published with its verdict.

Deploying it when it is better is left to the caller, which can wait for the workers.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from pricing.artifacts.deployment import Deployment
from pricing.artifacts.evidence import Judged
from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import MANIFEST_FILE, Artifact, Store
from pricing.errors import NothingDeployedError
from pricing.format import is_of_a_later_release, reason_of
from pricing.inference.predictor import load
from train.errors import TrainingError
from train.evidence.audits import check_audit, without_audited
from train.evidence.gather import with_evidence
from train.models.family_names import FamilyName
from train.models.training import Plan, train
from train.promotion.judge import LEVEL, TOO_FEW, Candidate, JudgementRows, Verdict, judge
from train.promotion.progress import progress, steps
from train.promotion.publish import plain, publish, publish_next, tell_rows
from train.promotion.rolling_origin import with_rolling_origins
from train.promotion.versions import contract, contract_of, next_version
from train.sales import rows as data
from train.sales import test_rows as seen
from train.sales.columns import ColumnChoice, wishes_of
from train.sales.rows import AS_IT_IS, Reading, Sales
from train.sales.split import Mask, positions, sides, split_by_house

VERDICT_FILE: Final = "verdict.json"
MIN_NEW_HOUSES: Final = 1_000


@dataclass(frozen=True)
class RetrainOptions:
    """The options of the command; None leaves the choice to the program."""

    data: Path
    query: str | None
    family: FamilyName | None
    seed: int
    dry_run: bool
    reading: Reading = AS_IT_IS
    columns: ColumnChoice | None = None
    """To learn from; None for the champion's."""
    exclude_outliers: bool = False
    audit: tuple[str, ...] = ()
    """Columns by which errors are studied, and which are never learned from."""
    keep_sales: bool = False


def retrain(store: Store, order: RetrainOptions, console: Console | None = None) -> Verdict:
    """Train a challenger, judge it, publish it with its verdict unless this is a dry run, and print all of it.

    Raises TrainingError, ArtifactError, NothingDeployedError or NotWritableError with one sentence; then nothing has
    been written.
    """
    console = console or plain()
    deployment = _deployment(store)
    champion = _champion(store, deployment)
    if not order.dry_run:
        store.check_writable()
    version = next_version(store)
    known = wishes_of(champion.manifest.columns)
    inherited = {name: wish for name, wish in known.items() if name not in order.audit}
    columns = inherited if order.columns is None else order.columns
    check_audit(order.audit, columns)
    others = None if columns or known or order.audit else ()  # the champion reads its own also if these are others
    sales = data.read(order.data, order.query, replace(order.reading, others=others))
    learned_from = without_audited(sales, order.audit)
    tell_rows(console, sales)
    split = champion.manifest.split
    with progress(console, steps(sales, order.family, columns, judged=True)) as tell:
        unseen = unseen_by(champion.manifest, sales)
        if transition := _transition(champion.manifest, version):
            tell(transition)
        if champion.manifest.sales is not None and not order.keep_sales:
            tell(f"{champion.manifest.version} keeps its sales, {version} keeps none: --keep-sales would keep them")
        plan = Plan(version, split.salt, order.seed, order.family, columns, order.exclude_outliers, order.keep_sales)
        challenger = with_rolling_origins(train(learned_from, plan, tell, held_back=unseen), learned_from, tell)
        tell("judging champion and challenger on the same test rows")
        candidate = Candidate(challenger.manifest, load(challenger))
        rows = choose_evidence(store, champion.manifest, sales, unseen)
        verdict = judge(champion, candidate, rows)
        tell("gathering figures for the report")
        judged = judged_of(verdict, rows, champion, candidate)
        challenger = with_evidence(challenger, sales, order.audit, unseen, judged)
    _tell_verdict(console, verdict)
    if order.dry_run:
        console.print(f"dry run: {version} was not published")
    else:

        def put(found: Artifact) -> None:
            named = verdict.model_copy(update={"challenger": found.manifest.version})
            publish(store, found, sales, console, {VERDICT_FILE: named.model_dump_json(indent=2).encode()})

        published = publish_next(store, challenger, put).manifest.version
        verdict = verdict.model_copy(update={"challenger": published})
    return verdict


def judged_of(verdict: Verdict, rows: JudgementRows, champion: Candidate, challenger: Candidate) -> Judged:
    """The part of a verdict that the report shows, with the MAPE of both versions on the rows of the verdict."""
    mapes = [float(np.mean(np.abs(rows.priced_by(of)[0] / rows.prices - 1))) for of in (champion, challenger)]
    return Judged(
        champion=verdict.champion,
        rows=verdict.rows,
        houses=verdict.groups,
        used_before=verdict.used_before,
        champion_mape=mapes[0],
        mape=mapes[1],
        gain=_finite(verdict.gain),
        gain_lower=_finite(verdict.gain_lower),
        against=verdict.against,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def unseen_by(champion: Manifest, sales: Sales) -> Mask:
    """The rows of houses that the champion has not learned from: all sales of them are its test rows, shape (n,).

    A champion that dealt houses by other features than today's may have learned from an earlier sale of a house whose
    later sale is a test row.
    """
    test = sides(positions(sales.houses, champion.split), champion.split).test
    house = positions(sales.houses, split_by_house(champion.split.salt))
    return test & ~np.isin(house, house[~test])


def choose_evidence(store: Store, champion: Manifest, sales: Sales, unseen: Mask) -> JudgementRows:
    """Rows that neither has seen: if enough have come since the champion's training, only these; otherwise all.

    Rows come into use when a version is judged on them, so of the same rows every further verdict is worth less: it
    counts how many there have been.
    """
    houses, prices = sales.houses[unseen], sales.prices[unseen]
    position = positions(houses, split_by_house(champion.split.salt))
    new = np.zeros(len(prices), np.bool_)
    known = seen.parse(store.read_beside(champion.version, seen.FILE), champion.version)
    if known is not None:
        new = ~np.isin(seen.hashes(houses, prices), known)
    only_new = len(np.unique(position[new])) >= MIN_NEW_HOUSES
    used = times_used(store, champion, only_new=only_new)
    kept = new if only_new else np.ones_like(new)
    return JudgementRows(
        houses[kept],
        prices[kept],
        position[kept],
        int(new.sum()),
        only_new=only_new,
        used_before=used,
        others=sales.others.where(unseen).where(kept),
    )


def times_used(store: Store, champion: Manifest, *, only_new: bool) -> int:
    """The number of verdicts that have used such rows: any with this salt, or of new rows those against this champion.

    The highest count on record counts too, so that it does not fall when old versions are pruned.
    """
    used = [
        verdict.used_before + 1
        for verdict in verdicts(store)
        if (verdict.champion == champion.version if only_new else verdict.salt == champion.split.salt)
    ]
    return max(len(used), *used, 0)


def verdicts(store: Store) -> list[Verdict]:
    """The verdicts of all published versions that have one; a damaged one is left out.

    Raises TrainingError for one that only a later release can read: it counts, but its rows are unknown.
    """
    found = []
    for version in store.versions():
        content = store.read_beside(version, VERDICT_FILE)
        if content is not None:
            try:
                found.append(Verdict.model_validate_json(content))
            except ValidationError as error:
                if is_of_a_later_release(error):
                    msg = f"{version}/{VERDICT_FILE}: {reason_of(error)}"
                    raise TrainingError(msg) from error
    return found


def _deployment(store: Store) -> Deployment:
    try:
        return store.deployment()
    except NothingDeployedError as error:
        msg = "no version is deployed, so no comparison is possible: `appraiser train` makes a first one"
        raise NothingDeployedError(msg) from error


def _champion(store: Store, deployment: Deployment) -> Candidate:
    version = deployment.champion
    seal = deployment.sha256[version]
    # before it is read, since a manifest with other features cannot be; unsealed it is damaged, whatever it holds
    sealed = hashlib.sha256(store.read_beside(version, MANIFEST_FILE) or b"").hexdigest() == seal
    if sealed and contract_of(store, version) not in (None, contract()):
        msg = (
            f"the champion {version} was trained for other features, units or bounds: no challenger can be "
            f"compared with it; `appraiser train` makes {next_version(store)}, `appraiser promote` deploys it"
        )
        raise TrainingError(msg)
    artifact = store.read(version, seal)
    return Candidate(artifact.manifest, load(artifact))


def _transition(champion: Manifest, version: str) -> str:
    """A sentence on how versions of different splits are compared; empty for equal ones."""
    then, now = champion.split.identified_by, split_by_house(champion.split.salt).identified_by
    if then == now:
        return ""
    return (
        f"{champion.version} dealt its sales by {', '.join(then)}, {version} deals them by {', '.join(now)}: they are "
        f"compared on houses of which neither learns from any sale, so {version} learns from about a fifth less"
    )


def _tell_verdict(console: Console, verdict: Verdict) -> None:
    rows = f"{verdict.rows:,} test rows of {verdict.groups:,} houses" + (
        " that have come since its training" if verdict.only_new else ""
    )
    used = f"used {verdict.used_before} times before" if verdict.used_before else "never used before"
    console.print(f"{verdict.challenger} against the champion {verdict.champion}, on {rows} ({used}):")
    console.print(
        f"  mean absolute error of the log price {verdict.challenger_error:.4f} against {verdict.champion_error:.4f}: "
        f"gain {verdict.gain:.2%}, at least {verdict.gain_lower:.2%} (one-sided 95 %), "
        f"on one price for all at least {verdict.skill_lower:.0%}"
    )
    console.print(
        f"  interval at {LEVEL:.0%}: contains {verdict.coverage:.1%} of the prices, "
        f"allowed is {LEVEL:.0%} ± {verdict.coverage_tolerance:.1%}"
    )
    console.print(
        f"  vertical equity: PRB {verdict.challenger_prb:+.3f} against {verdict.champion_prb:+.3f} of the champion, "
        f"VEI {verdict.challenger_vei:+.1f}"
    )
    table = Table(title="by fifth of the predicted price", title_justify="left")
    for heading in ("prices", "houses", "error against champion", "at least", "at most"):
        table.add_column(heading, justify="right")
    for part in verdict.fifths:
        prices = f"${part.lowest_price:,.0f} to ${part.highest_price:,.0f}"
        bounds = f"{part.loss_lower:+.1%}", f"{part.loss_upper:+.1%}"
        table.add_row(prices, f"{part.rows:,}", f"{part.loss:+.1%}", *bounds)
    console.print(table)
    for sentence in verdict.against:
        console.print(f"  against it: {sentence}")
    if verdict.is_undecided:
        console.print(f"verdict: {TOO_FEW}{verdict.challenger} is better")
    else:
        console.print(f"verdict: {verdict.challenger} is {'better' if verdict.is_better else 'not better'}")

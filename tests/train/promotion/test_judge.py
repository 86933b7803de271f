"""The judge: each rule alone decides, at its boundary, and the figures can be computed in the head."""

import math
import re

import numpy as np
import pytest

from pricing.artifacts.manifest import Calibration
from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from train.errors import DataError
from train.promotion.judge import TOO_FEW, Candidate, JudgementRows, Verdict, judge, objections
from train.promotion.paired import compare, student

ROWS = 2_000
PRICE = 50_000.0


class Off:
    """Whose log price is off by what the third column says times a factor, up and down in turn."""

    def __init__(self, factor: float, spread: float = 0.1) -> None:
        self._factor = factor
        self._spread = spread

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        size = houses[:, 2].astype(np.float64) * self._factor
        sign = np.where(np.arange(len(houses)) % 2, 1.0, -1.0)
        return np.log(prices_of(houses)) + sign * size, np.full(len(houses), self._spread)


def prices_of(houses: Matrix) -> Column:
    """Five prices, by the first column, so far apart that no error makes one look like another."""
    return PRICE * 2 ** houses[:, 0].astype(np.float64)


def evidence(rows: int = ROWS) -> JudgementRows:
    """Houses whose errors scatter from 0.05 to 0.15, in five equal classes of price."""
    rng = np.random.default_rng(1)
    houses = np.zeros((rows, 5), dtype=np.float32)
    houses[:, 0] = 1 + np.arange(rows) % 5
    houses[:, 1] = np.arange(rows)
    houses[:, 2] = rng.uniform(0.05, 0.15, rows)
    return JudgementRows(houses, prices_of(houses), np.arange(rows) / rows, 0, only_new=False, used_before=0)


def calibration(quantile: float) -> Calibration:
    return Calibration(rows=200, levels=(0.5, 0.9, 0.99), quantiles=(quantile / 2, quantile, quantile))


def contender(published: Artifact, version: str, graph: Off, quantile: float = 1.4) -> Candidate:
    """The quantile of a calibrated interval: 1.4 * spread is the size of error that 90 % keep below."""
    return Candidate(
        published.manifest.model_copy(update={"version": version}), Predictor(graph, calibration(quantile))
    )


def verdict_on(published: Artifact, factor: float, quantile: float | None = None) -> Verdict:
    """Of a challenger whose errors are the champion's times a factor, with an interval that holds."""
    champion = contender(published, "v1.0.0", Off(1))
    challenger = contender(published, "v1.1.0", Off(factor), 1.4 * factor if quantile is None else quantile)
    return judge(champion, challenger, evidence())


def test_a_challenger_that_halves_the_error_is_better(published: Artifact) -> None:
    verdict = verdict_on(published, 0.5)

    assert verdict.is_better
    assert (verdict.champion, verdict.challenger, verdict.rows, verdict.groups) == ("v1.0.0", "v1.1.0", ROWS, ROWS)
    assert verdict.champion_error == pytest.approx(0.1, abs=0.002)
    assert verdict.challenger_error == pytest.approx(verdict.champion_error / 2)
    assert verdict.gain == pytest.approx(0.5)
    assert verdict.gain_lower == pytest.approx(0.5)  # each row gains the same share
    assert verdict.coverage == pytest.approx(0.9, abs=0.02)
    assert verdict.coverage_tolerance == pytest.approx(3 * math.sqrt(0.09 / ROWS) + 0.005)
    assert [(part.rows, round(part.loss, 6)) for part in verdict.fifths] == [(400, -0.5)] * 5


@pytest.mark.parametrize(("factor", "better"), [(0.9899, True), (0.9901, False), (1.0, False), (1.1, False)])
def test_a_gain_of_less_than_1_percent_is_not_worth_a_change(
    published: Artifact, factor: float, *, better: bool
) -> None:
    verdict = verdict_on(published, factor)

    assert verdict.is_better == better
    assert any("is worth a change" in sentence for sentence in verdict.against) != better


def test_the_same_model_is_not_better(published: Artifact) -> None:
    verdict = verdict_on(published, 1.0)

    assert (verdict.gain, verdict.gain_lower, verdict.gain_upper) == (0.0, 0.0, 0.0)
    assert verdict.against == (
        "the gain is 0.00% (0.00% to 0.00%), at least 1% is worth a change and its lower bound must be above 0",
    )
    assert not verdict.is_undecided


class Noisy(Off):
    """Better on average, by chance: its error on a row has nothing to do with the champion's."""

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        _, spread = super().run(houses)
        noise = np.random.default_rng(7).standard_normal(len(houses)) * 0.13
        return np.log(prices_of(houses)) + noise, spread


def test_a_gain_that_may_be_chance_is_none(published: Artifact) -> None:
    few = evidence(250)
    verdict = judge(contender(published, "v1.0.0", Off(1)), contender(published, "v1.1.0", Noisy(1), 1.97), few)

    assert verdict.gain > 0.01
    assert verdict.gain_lower < 0
    assert verdict.against[0].startswith(f"{TOO_FEW}the challenger is better: the gain is {verdict.gain:.2%} (")
    assert verdict.is_undecided


@pytest.mark.parametrize(("quantile", "better"), [(0.7, True), (0.6, False), (0.8, False)])
def test_an_interval_that_does_not_hold_is_refused_on_either_side(
    published: Artifact, quantile: float, *, better: bool
) -> None:
    verdict = verdict_on(published, 0.5, quantile)

    assert verdict.is_better == better
    assert [sentence.startswith("the interval at 90% contains ") for sentence in verdict.against] == [True] * (
        not better
    )


class WorseForTheDearest(Off):
    """Halves the error, but for the dearest fifth, where it is as much times the champion's."""

    def __init__(self, times: float) -> None:
        super().__init__(0.5)
        self._times = times

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        better, spread = super().run(houses)
        worse, _ = Off(self._times).run(houses)
        return np.where(houses[:, 0] == 5, worse, better), spread


@pytest.mark.parametrize(("times", "better"), [(1.0, True), (1.04, True), (1.2, False)])
def test_a_fifth_that_is_much_worse_is_refused(published: Artifact, times: float, *, better: bool) -> None:
    challenger = contender(published, "v1.1.0", WorseForTheDearest(times), 0.85)
    verdict = judge(contender(published, "v1.0.0", Off(1)), challenger, evidence())
    against = [sentence for sentence in verdict.against if sentence.startswith("houses of $")]

    assert verdict.fifths[-1].loss == pytest.approx(times - 1)
    assert verdict.gain > 0.3
    assert len(against) == (not better)


def test_a_challenger_that_knows_no_more_than_one_price_for_all_is_refused(published: Artifact) -> None:
    """As after a training on a file with its prices in the wrong rows, where the champion knows even less."""
    rng = np.random.default_rng(0)
    lost = evidence()._replace(prices=rng.permutation(evidence().prices))

    class OnePrice(Off):
        def run(self, houses: Matrix) -> tuple[Column, Column]:
            return np.full(len(houses), np.log(np.median(lost.prices))), np.full(len(houses), 1.4)

    champion, challenger = contender(published, "v1.0.0", Off(1)), contender(published, "v1.1.0", OnePrice(1), 1.0)
    verdict = judge(champion, challenger, lost)

    assert verdict.gain_lower > 0.1
    assert verdict.skill_lower == pytest.approx(0)
    assert verdict.against[0].startswith("it is not better than one price for all houses")


def test_a_challenger_without_certified_parity_is_refused(published: Artifact) -> None:
    verdict = verdict_on(published, 0.5)

    assert objections(verdict) == []
    assert objections(verdict.model_copy(update={"parity_ppm": 5.0, "parity_limit_ppm": 5.0})) == []
    for off in (5.01, math.nan):
        (sentence,) = objections(verdict.model_copy(update={"parity_ppm": off, "parity_limit_ppm": 5.0}))
        assert sentence.startswith("ONNX is ")


@pytest.mark.parametrize("figure", ["gain", "gain_lower", "skill_lower", "coverage", "parity_ppm"])
def test_a_figure_that_is_no_number_is_no_reason_to_deploy(published: Artifact, figure: str) -> None:
    verdict = verdict_on(published, 0.5)

    assert objections(verdict) == []
    assert len(objections(verdict.model_copy(update={figure: math.nan}))) == 1


def test_a_fifth_whose_loss_is_no_number_is_no_reason_to_deploy(published: Artifact) -> None:
    verdict = verdict_on(published, 0.5)
    lost = verdict.fifths[0].model_copy(update={"loss": math.nan, "loss_lower": math.nan})

    (sentence,) = objections(verdict.model_copy(update={"fifths": (lost, *verdict.fifths[1:])}))
    assert "are worse by nan%" in sentence
    (sentence,) = objections(
        verdict.model_copy(update={"fifths": (verdict.fifths[0].model_copy(update={"loss_upper": math.nan}),)})
    )
    assert "to nan%" in sentence


@pytest.mark.parametrize(
    ("loss", "lower", "upper", "told"),
    [
        (0.0, -0.09, 0.0999, None),
        (0.0, -0.1, 0.1, "too few"),
        (0.075, 0.05, 0.1, "too few"),
        (0.09, 0.04, 0.2, "too few"),
        (0.3, 0.04, 0.6, "too few"),
        (0.07, 0.0501, 0.09, "is worse"),
        (0.2, 0.06, 0.4, "is worse"),
        (0.2, 0.19, 0.21, "is worse"),
    ],
)
def test_a_fifth_must_rule_out_10_percent_and_not_be_5_percent_worse(
    published: Artifact, loss: float, lower: float, upper: float, told: str | None
) -> None:
    verdict = verdict_on(published, 0.5)
    part = verdict.fifths[0].model_copy(update={"loss": loss, "loss_lower": lower, "loss_upper": upper})

    found = objections(verdict.model_copy(update={"fifths": (part, *verdict.fifths[1:])}))

    assert ["too few" if sentence.startswith(TOO_FEW) else "is worse" for sentence in found] == [told] * (
        told is not None
    )


def test_the_number_of_houses_that_would_be_enough_shrinks_the_interval_to_the_distance(published: Artifact) -> None:
    verdict = verdict_on(published, 0.5)

    def enough(loss: float, half: float) -> int:
        bounds = {"loss_lower": (1 + loss) * math.exp(-half) - 1, "loss_upper": (1 + loss) * math.exp(half) - 1}
        part = verdict.fifths[0].model_copy(update={"loss": loss, **bounds})
        (sentence,) = objections(verdict.model_copy(update={"fifths": (part,)}))
        found = re.search(r"about ([\d,]+) different test houses would be enough$", sentence)
        assert found is not None
        return int(found[1].replace(",", ""))

    at_no_loss = ROWS * (0.2 / math.log(1.1)) ** 2
    assert at_no_loss <= enough(0.0, 0.2) <= 1.1 * at_no_loss
    to_tell_a_loss_of_a_third = ROWS * (0.4 / math.log(1.33 / 1.05)) ** 2
    assert to_tell_a_loss_of_a_third <= enough(0.33, 0.4) <= 1.1 * to_tell_a_loss_of_a_third


def test_a_challenger_that_prices_dear_and_cheap_houses_less_alike_is_refused(published: Artifact) -> None:
    verdict = verdict_on(published, 0.9)
    (sentence,) = objections(
        verdict.model_copy(
            update={"is_less_equitable": True, "challenger_prb": -0.08, "champion_prb": -0.01, "challenger_vei": -18.0}
        )
    )
    assert sentence == (
        "it prices dear and cheap houses less alike: PRB -0.080 against -0.010 of the champion, allowed is 0.05 either "
        "way; VEI -18.0, allowed is 10 either way"
    )


class Regressive(Off):
    """Errors that look small: 8 % less with each doubling of the price."""

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        _, spread = super().run(houses)
        log_price = np.log(prices_of(houses))
        noise = np.random.default_rng(3).standard_normal(len(houses)) * 0.02
        return log_price + np.log(0.92) * (houses[:, 0] - 3) + noise, spread


def test_a_planted_regressive_challenger_meets_that_objection(published: Artifact) -> None:
    verdict = judge(contender(published, "v1.0.0", Off(3)), contender(published, "v1.1.0", Regressive(1)), evidence())
    assert verdict.is_less_equitable
    assert verdict.challenger_prb == pytest.approx(-0.08, abs=0.01)
    assert [sentence for sentence in verdict.against if sentence.startswith("it prices dear and cheap houses")]


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"gain": 0.02, "gain_lower": -0.01, "gain_upper": 0.05}, "the challenger is better: the gain is 2.00%"),
        ({"skill": 0.1, "skill_lower": -0.1}, "it is better than one price for all houses: it gains 10.0%"),
        (
            {"groups": 200, "coverage": 0.95, "coverage_tolerance": 0.069},
            "the interval holds: at 90% it contains 95.0%",
        ),
        (
            {"groups": 200, "coverage": 0.85, "coverage_tolerance": 0.069},
            "the interval holds: at 90% it contains 85.0%",
        ),
    ],
    ids=["gain", "skill", "coverage", "coverage far off"],
)
def test_each_question_may_be_left_open_by_too_few_rows(
    published: Artifact, figures: dict[str, float], told: str
) -> None:
    (sentence,) = objections(verdict_on(published, 0.5).model_copy(update=figures))

    assert sentence.startswith(TOO_FEW + told)
    assert re.search(r"; about [\d,]+ different test houses would be enough$", sentence)


def test_a_gain_that_is_certain_but_small_is_not_left_open(published: Artifact) -> None:
    figures = {"gain": 0.005, "gain_lower": 0.004, "gain_upper": 0.02}
    (sentence,) = objections(verdict_on(published, 0.5).model_copy(update=figures))

    assert sentence.startswith("the gain is 0.50% (0.40% to 2.00%), at least 1% is worth a change")


def test_a_verdict_of_before_the_upper_bounds_is_read(published: Artifact) -> None:
    written = verdict_on(published, 0.5).model_dump()
    for name in ("gain_upper", "skill"):
        del written[name]
    for part in written["fifths"]:
        del part["loss_upper"]

    assert Verdict.model_validate(written).gain == pytest.approx(0.5)


class NoNumber(Off):
    """Halves the error, but has no price for the first house."""

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        log_price, spread = super().run(houses)
        return np.where(houses[:, 1] == 0, math.nan, log_price), spread


def test_a_challenger_without_a_price_for_one_house_is_refused(published: Artifact) -> None:
    champion, challenger = contender(published, "v1.0.0", Off(1)), contender(published, "v1.1.0", NoNumber(0.5), 0.7)

    verdict = judge(champion, challenger, evidence())

    assert not verdict.is_better
    assert math.isnan(Verdict.model_validate_json(verdict.model_dump_json()).gain)


def test_the_parity_that_counts_is_the_worse_one_of_the_certificate(published: Artifact) -> None:
    parity = published.manifest.parity
    assert verdict_on(published, 0.5).parity_ppm == max(parity.test_ppm, parity.threshold_ppm)


def test_houses_that_are_sold_again_and_again_count_once(published: Artifact) -> None:
    contenders = contender(published, "v1.0.0", Off(1)), contender(published, "v1.1.0", Noisy(1), 1.97)

    def tenfold(position: Column) -> Verdict:
        rows = evidence(250)
        tiled = rows._replace(
            houses=np.repeat(rows.houses, 10, axis=0), prices=np.repeat(rows.prices, 10), position=position
        )
        return judge(*contenders, tiled)

    together, apart = tenfold(np.repeat(np.arange(250) / 250, 10)), tenfold(np.arange(2_500) / 2_500)

    assert (together.rows, together.groups, apart.groups) == (2_500, 250, 2_500)
    assert sum(part.rows for part in together.fifths) == 250
    assert together.coverage_tolerance == pytest.approx(3 * math.sqrt(0.09 / 250) + 0.005)
    assert apart.coverage_tolerance == pytest.approx(3 * math.sqrt(0.09 / 2_500) + 0.005)
    for seen, half in ((together, 0.7), (apart, 0.3)):
        assert seen.fifths[0].loss_upper - seen.fifths[0].loss_lower < half


def test_as_many_test_sales_as_were_left_out_of_learning_may_be_outside_of_its_interval(published: Artifact) -> None:
    champion = contender(published, "v1.0.0", Off(1))
    challenger = contender(published, "v1.1.0", Off(0.5), 0.5 * 1.35)  # contains 85 %
    figures = published.manifest.data
    excluding = figures.model_copy(update={"excluded": figures.fit // 19})  # 5 % of both
    left_out = challenger._replace(manifest=challenger.manifest.model_copy(update={"data": excluding}))

    strict, lenient = judge(champion, challenger, evidence()), judge(champion, left_out, evidence())

    assert not strict.is_better
    assert lenient.is_better
    assert lenient.coverage == strict.coverage == pytest.approx(0.85, abs=0.02)
    assert lenient.coverage_tolerance == pytest.approx(strict.coverage_tolerance + 0.05, abs=0.001)


def test_the_bounds_are_as_wide_as_the_scatter_of_the_mean_says() -> None:
    new = np.random.default_rng(0).uniform(0.5, 1.5, 1_000)

    ratio = compare(np.ones(1_000), new)

    half = 1.6464 * new.std(ddof=1) / new.mean() / math.sqrt(1_000)
    assert ratio.value == pytest.approx(new.mean())
    assert (ratio.lower, ratio.upper) == pytest.approx(
        (ratio.value * math.exp(-half), ratio.value * math.exp(half)), rel=1e-4
    )


@pytest.mark.parametrize(("freedom", "quantile"), [(10, 1.8125), (39, 1.6849), (199, 1.6525), (10_000, 1.6450)])
def test_the_quantile_is_that_of_students_t(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=1e-3)


@pytest.mark.parametrize("tails", [3, 30])
def test_a_bound_of_40_houses_is_too_low_in_5_percent_of_the_cases(tails: int) -> None:
    """As many as a fifth of 200; at their size the percentiles of a bootstrap are too low in more than 6 %."""
    rng = np.random.default_rng(0)
    base, *own = rng.standard_t(tails, (3, 4_000, 40))
    old, new = (np.abs(base + 0.4 * each) for each in own)

    too_low = np.mean([compare(*errors).upper < 1 for errors in zip(old, new, strict=True)])

    assert too_low == pytest.approx(0.05, abs=0.014)  # four standard errors


def test_the_same_rows_give_the_same_verdict(published: Artifact) -> None:
    assert verdict_on(published, 0.97) == verdict_on(published, 0.97)


@pytest.mark.parametrize(("rows", "enough"), [(200, True), (199, False)])
def test_fewer_than_200_houses_judge_nobody(published: Artifact, rows: int, *, enough: bool) -> None:
    contenders = contender(published, "v1.0.0", Off(1)), contender(published, "v1.1.0", Off(0.5))
    if enough:
        assert judge(*contenders, evidence(rows)).rows == rows
    else:
        with pytest.raises(DataError, match=r"^199 different houses are left to judge on, at least 200 are needed"):
            judge(*contenders, evidence(rows))


def test_a_verdict_is_read_as_it_was_written(published: Artifact) -> None:
    verdict = verdict_on(published, 0.97)

    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_every_sentence_says_what_was_seen_and_what_is_allowed(published: Artifact) -> None:
    verdict = verdict_on(published, 1.2, 0.5)

    assert len(verdict.against) == 7
    assert all(any(character.isdigit() for character in sentence) for sentence in verdict.against)

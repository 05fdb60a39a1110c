import math

import pytest

from cnnclf.tuning.halving import FAILED, Halving, Job, choose_rungs


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(33, (4, 11, 33)), (60, (7, 20, 60)), (15, (5, 15)), (6, (2, 6)), (3, (3,)), (1, (1,))],
)
def test_rungs_are_thirds_of_at_least_two_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert choose_rungs(epochs) == rungs


def run(qualities: list[float], *, trials: int) -> tuple[Halving, list[tuple[int, int]]]:
    halving, jobs = Halving((2, 6, 18)), []
    while job := halving.choose_job(may_start=len(halving.scores) < trials):
        jobs.append((job.trial, job.rung))
        quality = qualities[job.trial]
        old = [] if job.trial == len(halving.scores) else halving.scores[job.trial]
        new = [(quality, 0.0)] * (job.rung + 1 - len(old))
        halving.record(job.trial, [*old, *new])
        assert len(jobs) < 100
    return halving, jobs


def test_the_default_is_trained_to_the_end_first() -> None:
    _, jobs = run([0.1] * 4, trials=4)
    assert jobs[0] == (0, 2)


def test_a_third_of_each_rung_is_promoted_and_nothing_is_trained_twice() -> None:
    qualities = [0.5] + [math.sin(12.9 * number) for number in range(1, 27)]
    halving, jobs = run(qualities, trials=27)
    assert len(jobs) == len(set(jobs))
    reached = [sum(len(each) > rung for each in halving.scores) for rung in range(3)]
    assert reached[0] == 27
    assert 9 <= reached[1] <= 12  # promoted early, on what was known
    best = max(range(1, 27), key=lambda trial: qualities[trial])
    assert len(halving.scores[best]) == 3
    assert halving.best()[0] == best


def test_with_few_trials_the_best_one_is_trained_to_the_end_all_the_same() -> None:
    halving, _ = run([0.5, 0.1, 0.4, 0.2], trials=4)
    assert [len(each) for each in halving.scores] == [3, 1, 3, 1]


def test_ties_go_to_the_earlier_trial_and_failures_are_never_promoted() -> None:
    halving = Halving((2, 6), [[(0.5, 0.0)] * 2, [FAILED], [(0.3, 0.0)], [(0.3, 0.0)]])
    assert halving.rank(0) == [0, 2, 3, 1]
    job = halving.choose_job(may_start=True)
    assert job is not None
    assert (job.trial, job.rung) == (2, 1)
    halving.scores = [[(0.5, 0.0)] * 2, [FAILED], [FAILED]]
    assert halving.choose_job(may_start=False) is None


def test_nothing_follows_a_default_that_failed_but_other_trials() -> None:
    halving = Halving((2, 6), [[FAILED]])
    job = halving.choose_job(may_start=True)
    assert job is not None
    assert (job.trial, job.rung) == (1, 0)


def test_trials_that_are_running_are_neither_promoted_nor_started_again() -> None:
    halving = Halving((2, 6, 18), running={0})
    assert halving.choose_job(may_start=True) is None  # the default says what others cost
    halving.record(0, [(0.5, 0.0)] * 3)
    for number in range(1, 5):
        job = halving.choose_job(may_start=True)
        assert job is not None
        assert (job.trial, job.rung) == (number, 0)
        halving.running.add(number)
    assert halving.choose_job(may_start=False) is None
    for number in (1, 2, 3):
        halving.record(number, [(0.1 * number, 0.0)])
    job = halving.choose_job(may_start=False)
    assert job is not None
    assert (job.trial, job.rung) == (3, 1)
    halving.running.add(3)
    assert halving.choose_job(may_start=False) is None  # the fourth may be better than the second
    assert halving.choose_job(may_start=False, fits=lambda *_: False) is None


def test_what_there_is_no_time_for_is_skipped_and_the_next_best_come_last() -> None:
    halving = Halving((2, 6, 18), [[(0.5, 0.0)] * 3])
    halving.scores += [[(0.1 * number, 0.0)] * (1 + (number > 2)) for number in range(1, 5)]

    def list_jobs(epochs: int, *, with_extras: bool) -> list[tuple[int, int]]:
        jobs: list[Job] = []

        def fits(job: Job, is_extra: bool) -> bool:
            new = halving.rungs[job.rung] - halving.rungs[job.rung - 1] <= epochs
            return new and job not in jobs and (with_extras or not is_extra)

        while job := halving.choose_job(may_start=False, fits=fits):
            jobs.append(job)
        return [(job.trial, job.rung) for job in jobs]

    assert list_jobs(12, with_extras=False) == [(4, 2)]
    assert list_jobs(12, with_extras=True) == [(4, 2), (3, 2), (2, 1), (1, 1)]
    assert list_jobs(4, with_extras=True) == [(2, 1), (1, 1)]
    assert list_jobs(3, with_extras=True) == []

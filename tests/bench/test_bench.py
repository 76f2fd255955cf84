"""The benchmark itself: what it takes and plans, what it makes of figures, and that its programs run (on SQLite)."""

from pathlib import Path

import pytest

from bench.__main__ import Options, jobs, libraries, parse, selected
from bench.catalogue import GROWTH, LIMITS, POSTGRESQL, PROGRAMS, ROWS, SQLITE, Program
from bench.compare import compare
from bench.records import BARE, OURS, PEER, Failed, Measured, Record, Reported, Run, read_records, write_records
from bench.report import write_report
from bench.runner import Job, run
from bench.size import Size
from bench.stores import SQLiteStore
from bench.summary import Results

ROW = {row.name: row for row in (*ROWS, *GROWTH, *LIMITS)}


def measured(
    row: str, library: str, figure: float, *, store: str = SQLITE, at: float | None = None, repetition: int = 0
) -> Measured:
    """A window in which there were so many operations in one second, each of a millisecond."""
    window = Reported(row, at, int(figure), 1.0, None, None, int(figure), 1)
    return Measured(store, library, repetition, window, 10.0, None, None, 0.5, 0.5)


def waited(row: str, library: str, milliseconds: float) -> Measured:
    """A window whose median is this."""
    one = measured(row, library, 1)
    window = Reported(row, None, 1, 1.0, milliseconds, milliseconds, None, 1)
    return Measured(one.store, library, 0, window, 10.0, None, None, 0.5, 0.5)


def options(*arguments: str) -> Options:
    return parse(arguments)


class TestPlan:
    """Which programs run, with what, in which order."""

    def test_libraries_run_in_turn_repetition_by_repetition(self) -> None:
        plan = jobs(options("--cases", "steps_alone", "--repetitions", "2"), [SQLiteStore()])
        assert [(job.library, job.repetition) for job in plan] == [(OURS, 0), (PEER, 0), (OURS, 1), (PEER, 1)]

    def test_both_do_the_same_unless_the_catalogue_says_otherwise(self) -> None:
        sizes = {job.library: job.size for job in jobs(options("--cases", "drained"), [SQLiteStore()])}
        assert sizes[OURS] == sizes[PEER]
        sizes = {job.library: job.size for job in jobs(options("--cases", "waiting"), [SQLiteStore()])}
        assert sizes[OURS].count > sizes[PEER].count

    def test_options_reach_the_programs(self) -> None:
        (job,) = jobs(
            options("--alone", "--cases", "drained", "--repetitions", "1", "--payload", "100", "--seconds", "7"),
            [SQLiteStore()],
        )
        assert (job.size.payload, job.size.seconds, len(job.size.value)) == (100, 7.0, 100)

    def test_the_quick_form_measures_every_row_that_has_a_target(self) -> None:
        quick = [job.program.name for job in jobs(options("--quick", "--alone"), [SQLiteStore()])]
        assert quick == ["limits", "quick.rates", "quick.delays", "crowds.waiting", "crowds.recovered"]

    def test_a_long_program_is_not_repeated(self) -> None:
        plan = list(jobs(options("--cases", "recovered", "--alone"), [SQLiteStore()]))
        assert len(plan) == 1

    def test_bare_drivers_have_no_peer(self) -> None:
        (limits,) = selected(options("--cases", "limits"))
        assert libraries(options(), limits) == (BARE,)

    @pytest.mark.parametrize("arguments", [["--repetitions", "0"], ["--payload", "-1"], ["--store", "oracle"]])
    def test_nonsense_is_refused(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            options(*arguments)
        assert arguments[0] in capsys.readouterr().err


class TestFigures:
    """What is made of what was measured."""

    def test_an_advantage_is_the_ratio_of_the_medians_and_its_spread_that_of_the_pairs(self) -> None:
        ours, peers = (100, 300, 200), (10, 10, 20)
        records = [measured("steps_alone", OURS, figure) for figure in ours]
        records += [measured("steps_alone", PEER, figure) for figure in peers]
        times = Results(records).line(ROW["steps_alone"], SQLITE).times
        assert times is not None
        assert (times.median, times.least, times.most) == (20, 10, 30)

    def test_less_is_better_for_latencies(self) -> None:
        results = Results([waited("send_to_recv", OURS, 2.0), waited("send_to_recv", PEER, 500.0)])
        line = results.line(ROW["send_to_recv"], SQLITE)
        assert line.times is not None
        assert line.times.median == 250
        assert line.met is True

    @pytest.mark.parametrize(("figure", "met"), [(500, True), (49, False)])
    def test_a_target_is_met_or_missed(self, figure: int, met: bool) -> None:
        records = [measured("steps_alone", OURS, figure), measured("steps_alone", PEER, 10)]
        assert Results(records).line(ROW["steps_alone"], SQLITE).met is met

    def test_without_the_peer_nothing_is_said_of_a_target_that_needs_it(self) -> None:
        assert Results([measured("steps_alone", OURS, 500)]).line(ROW["steps_alone"], SQLITE).met is None

    def test_a_share_of_the_limit(self) -> None:
        records = [measured("steps_alone", OURS, 500), measured("bare_commits", BARE, 2_000, at=1)]
        assert Results(records).line(ROW["steps_alone"], SQLITE).share == 0.25
        records = [waited("set_to_get", OURS, 2.0), measured("bare_commits", BARE, 4_000, at=1)]
        assert Results(records).line(ROW["set_to_get"], SQLITE).share is not None


class TestComparison:
    """Two results."""

    @staticmethod
    def results(*pairs: tuple[float, float]) -> Results:
        records: list[Record] = []
        for repetition, (ours, peers) in enumerate(pairs):
            records.append(measured("steps_alone", OURS, ours, repetition=repetition))
            records.append(measured("steps_alone", PEER, peers, repetition=repetition))
        return Results(records)

    def test_worse(self) -> None:
        (change,) = compare(self.results((1_000, 10), (1_100, 10)), self.results((500, 10), (550, 10)))
        assert change.worse
        assert not change.better

    def test_a_slower_machine_is_not_worse(self) -> None:
        (change,) = compare(self.results((1_000, 100), (1_100, 100)), self.results((500, 50), (550, 50)))
        assert not change.worse

    def test_one_repetition_says_nothing(self) -> None:
        (change,) = compare(self.results((1_000, 10)), self.results((500, 10)))
        assert not change.worse

    def test_spreads_that_meet_say_nothing(self) -> None:
        (change,) = compare(self.results((1_000, 10), (400, 10)), self.results((500, 10), (450, 10)))
        assert not change.worse

    def test_without_the_peer_the_figures_are_compared(self) -> None:
        before, now = (Results([waited("set_to_get", OURS, figure)] * 2) for figure in (9.0, 3.0))
        (change,) = compare(before, now)
        assert change.better
        assert change.times == pytest.approx(3)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records: list[Record] = [
        Run("2024-02-29 12:00 UTC", "quick", 1, 16, {"memory": "4 GiB"}),
        measured("steps_alone", OURS, 5),
        Failed(SQLITE, PEER, 0, "events.events_set", "it was late"),
    ]
    write_records(tmp_path / "some" / "where.jsonl", records)
    assert read_records(tmp_path / "some" / "where.jsonl") == records


def test_the_report_says_what_was_missed_and_what_failed(tmp_path: Path) -> None:
    records: list[Record] = [Run("2024-02-29 12:00 UTC", "quick", 1, 16, {"memory": "4 GiB"})]
    for store in (POSTGRESQL, SQLITE):
        records += [measured("steps_alone", OURS, 20, store=store), measured("steps_alone", PEER, 10, store=store)]
        records += [measured("with_processes", OURS, 100 * at, store=store, at=at) for at in (1, 2)]
        records.append(measured("bare_commits", BARE, 2_000, store=store, at=1))
    records.append(Failed(SQLITE, PEER, 0, "events.events_set", "it was | late"))
    write_report(Results(records), tmp_path, "some")
    text = (tmp_path / "some.md").read_text()
    assert "| ≥ 4 × | **no** | 1% |" in text
    assert r"it was \| late" in text
    pictures = [path.name for path in tmp_path.glob("*.svg")]
    assert len(pictures) == 4
    assert all(picture in text for picture in pictures)


def test_every_row_has_one_name() -> None:
    assert len(ROW) == len(ROWS) + len(GROWTH) + len(LIMITS)
    assert all(row.limit is None or row.limit[0] in ROW for row in ROW.values())


TINY = Size(seconds=0.1, count=100)


@pytest.mark.parametrize(
    "program", [one for one in PROGRAMS if not one.name.startswith("quick.")], ids=lambda one: one.name
)
@pytest.mark.long
def test_every_program_measures_tidings(program: Program) -> None:
    library = BARE if program.bare else OURS
    records = run(Job(program, library, SQLiteStore(), TINY, 0))
    assert not [record for record in records if isinstance(record, Failed)]
    windows = [record.window for record in records if isinstance(record, Measured)]
    assert windows
    assert all(window.row in ROW and window.operations > 0 and window.seconds > 0 for window in windows)


def test_a_program_that_fails_says_why() -> None:
    records = run(Job(Program("workflows.unheard_of"), OURS, SQLiteStore(), TINY, 0))
    (failed,) = records
    assert isinstance(failed, Failed)
    assert "unheard_of" in failed.error

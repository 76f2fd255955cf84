"""What a store's listeners hear of the batches of others, on both backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from msgspec.structs import replace

import tidings.store
from harness.postgres import end_listeners
from tests.store.conftest import OpenStore
from tests.store.driver import NOW_MS, Process, sending
from tests.store.driver import message as a_message
from tests.support.rows import Rows
from tidings.model import NoSuchWorkflow, Unit
from tidings.store.postgres.connect import Database
from tidings.store.protocol import PROBE, WAKE_ALL, Batch, DataError, Fenced, Listener, Store, Unavailable

pytestmark = pytest.mark.direct("must hear at once", only="transaction")

# What should be heard is heard in a moment; what should not is heard by nobody once a later name was.
HOUR = 3_600.0

Listen = Callable[[str], Listener]


@pytest.fixture
def listen(store: Store) -> Iterator[Listen]:
    """Listen as an executor of that id does."""
    listeners: list[Listener] = []

    def listen(executor_id: str) -> Listener:
        listeners.append(store.listen(executor_id))
        return listeners[-1]

    yield listen
    for listener in listeners:
        listener.close()


def waking(process: Process, *wakes: str, units: tuple[Unit, ...] = (Unit(),)) -> Batch:
    """Make the process's next batch, with these names."""
    return replace(process.batch(*units), wakes=wakes)


def heard(listener: Listener, last: str) -> list[str]:
    """Hear until the name `last`; return all up to it."""
    names: list[str] = []
    while last not in names:
        names += listener.hear(HOUR, lambda: True)
    return names


def test_others_hear_of_a_batch_and_its_own_executor_does_not(store: Store, process: Process, listen: Listen) -> None:
    own, other, another = listen("here"), listen("there"), listen("elsewhere")
    store.commit(waking(process, "a", "b"))
    assert heard(other, "b") == ["a", "b"]
    assert heard(another, "b") == ["a", "b"]
    neighbour = Process(store, "there")
    store.commit(waking(neighbour, "c"))
    assert heard(own, "c") == ["c"]


def test_a_probe_is_heard_by_its_own_executor_alone(store: Store, process: Process, listen: Listen) -> None:
    own, other = listen("here"), listen("there")
    store.commit(waking(process, "a", PROBE + "1"))
    assert heard(own, PROBE + "1") == [PROBE + "1"]
    store.commit(waking(process, "b"))
    assert heard(other, "b") == ["a", "b"]


def test_nothing_is_heard_of_what_was_committed_before(store: Store, process: Process, listen: Listen) -> None:
    store.commit(waking(process, "before"))
    listener = listen("there")
    store.commit(waking(process, "after"))
    assert heard(listener, "after") == ["after"]


def test_a_batch_that_does_not_land_is_not_heard_of(store: Store, process: Process, listen: Listen) -> None:
    process.start("w")
    listener = listen("there")
    fenced = waking(process, "fenced")
    with pytest.raises(Fenced):
        store.commit(replace(fenced, fence=process.fence + 1))
    with pytest.raises(DataError):
        store.commit(waking(process, "poison", units=(sending(a_message("w", body="lone \ud800")),)))
    store.commit(waking(process, "landed"))
    assert heard(listener, "landed") == ["landed"]


def test_a_batch_tried_again_is_heard_of(store: Store, process: Process, listen: Listen) -> None:
    """Names of refused units are among them: a hint too many does no harm, and one too few would."""
    listener = listen("there")
    [answer] = store.commit(waking(process, "refused", units=(sending(a_message("nobody")),)))
    assert isinstance(answer, NoSuchWorkflow)
    store.commit(waking(process, "last"))
    assert heard(listener, "last")[-1] == "last"


def test_thousands_of_names_are_heard_in_order(store: Store, process: Process, listen: Listen) -> None:
    names = [f"name-{number:05}" for number in range(5_000)] + ["!" + "x" * 684, "last"]
    listener = listen("there")
    store.commit(waking(process, *names))
    assert heard(listener, "last") == names


def test_who_hears_can_be_interrupted(store: Store, process: Process, listen: Listen) -> None:
    listener = listen("there")
    listener.interrupt()  # before it begins to hear
    assert listener.hear(HOUR, lambda: True) == []
    with ThreadPoolExecutor() as threads:
        hearing = threads.submit(listener.hear, HOUR, lambda: False)
        for _ in range(100_000):  # Nothing fills up.
            listener.interrupt()
        assert hearing.result() == []
    store.commit(waking(process, "after"))
    assert heard(listener, "after") == ["after"]


def test_hearing_ends_at_its_time(listen: Listen) -> None:
    assert listen("there").hear(0, lambda: True) == []


def test_closing_and_interrupting_are_harmless_when_repeated(listen: Listen) -> None:
    listener = listen("there")
    listener.close()
    listener.close()
    listener.interrupt()


def test_an_end_that_nobody_is_told_of_by_name_lets_all_look(store: Store, process: Process, listen: Listen) -> None:
    listener = listen("there")
    store.commit(waking(process, WAKE_ALL))
    assert heard(listener, WAKE_ALL) == [WAKE_ALL]


def test_a_listener_reads_what_another_process_wrote(open_store: OpenStore, listen: Listen) -> None:
    neighbour = Process(open_store(), "there")
    listener = listen("here")
    neighbour.store.commit(waking(neighbour, "a"))
    assert heard(listener, "a") == ["a"]


# --- where the two differ ------------------------------------------------------------------------------


def test_names_that_were_pruned_unread_let_all_look(sqlite_url: str) -> None:
    store = _opened(sqlite_url)
    process = Process(store)
    behind, in_time = store.listen("behind"), store.listen("in time")
    for name in ("a", "b", "c"):
        store.commit(waking(process, name))
        assert heard(in_time, name) == [name]
    Rows(sqlite_url).run("delete from tidings_wakes where names = 'a'")
    Rows(sqlite_url).run("delete from tidings_wakes where names = 'b'")
    store.commit(waking(process, "d"))
    assert heard(in_time, "d") == ["d"], "the one it had read last may go"
    assert behind.hear(HOUR, lambda: True) == [WAKE_ALL]
    store.commit(waking(process, "e"))
    assert heard(behind, "e") == ["e"]
    for each in (behind, in_time, store):
        each.close()


def test_old_names_are_pruned_and_the_newest_is_kept(sqlite_url: str) -> None:
    store = _opened(sqlite_url)
    process = Process(store)
    for after_ms in (0, 60_000, 120_000):
        store.commit(replace(waking(process, f"at-{after_ms}"), now_ms=NOW_MS + after_ms))
    assert Rows(sqlite_url).run("select id, names from tidings_wakes") == [(3, "at-120000")]
    store.close()


def test_a_listener_whose_connection_is_cut_says_so(postgres_url: str) -> None:
    store = _opened(postgres_url)
    listener = store.listen("there")
    end_listeners(postgres_url)
    with pytest.raises(Unavailable):
        heard(listener, "nothing")
    listener.close()
    store.close()


def test_nonsense_on_the_channel_is_passed_over(postgres_url: str) -> None:
    store = _opened(postgres_url)
    listener, process = store.listen("there"), Process(store)
    channel = Database(postgres_url, "tidings").channel  # Of who listens one may see listeners that are about to end.
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for payload in ("", "alone", "  ", "x !nonsense é"):
            admin.execute("select pg_notify(%s, %s)", (channel, payload))
    store.commit(waking(process, "a"))
    assert heard(listener, "a")[-1] == "a"
    listener.close()
    store.close()


def _opened(url: str) -> Store:
    store = tidings.store.open(url)
    store.migrate()
    store.connect()
    return store

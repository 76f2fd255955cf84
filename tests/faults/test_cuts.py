"""Connections that are cut in the middle of a batch, exactly before and after the commit reached the server."""

from __future__ import annotations

import pytest

from harness.proxy import Proxy
from tests.faults.load import Load
from tests.support.app import App, Sightings
from tests.support.face import Face, off_loop

MANY = 20


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
async def test_many_cuts_at_commits_lose_nothing_and_do_nothing_twice(
    app: App, face: Face, proxy: Proxy, log: Sightings, answered: bool
) -> None:
    load = Load(face)
    await load.start()
    cut = proxy.cut_at("commit", answered=answered, every=3, times=MANY)
    for turn in range(3):
        await load.send(turn)
    await load.await_results()
    while cut.count < MANY:  # What is left of them falls to further batches.
        await face.send("w0", "one more", "outside")
    proxy.forget_cuts()
    app.rows.run("delete from {messages} where body like '%one more%'")
    await load.check(app.rows)
    said = [each for each in log.seen if "writing to the database has failed" in each]
    assert len(said) == MANY
    assert all("nothing is lost" in each and "PostgreSQL database 'tidings_" in each for each in said)
    await log.until(lambda seen: sum("writing to the database works again" in each for each in seen) == MANY)


async def test_everything_is_cut_again_and_again(app: App, face: Face, proxy: Proxy) -> None:
    """Also who reads, and who listens."""
    load = Load(face)

    async def cut() -> None:
        for _ in range(8):
            before = proxy.accepted
            await off_loop(proxy.cut)
            await face.send("w0", "still there?", "nobody reads it")
            assert proxy.accepted > before

    await load.run(cut)
    [(count,)] = app.rows.run("select count(*) from {messages} where topic = 'nobody reads it'")
    assert count == 3 * 8
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
async def test_every_other_commit_of_a_lonely_workflow_is_cut(
    app: App, face: Face, proxy: Proxy, answered: bool
) -> None:
    """Alone in its batch, so that each kind of unit is hit in the end."""
    cut = proxy.cut_at("commit", answered=answered, every=2, times=None)
    load = Load(face, workflows=1, rounds=12)
    await load.run()
    proxy.forget_cuts()
    assert cut.count > 20
    await load.check(app.rows)

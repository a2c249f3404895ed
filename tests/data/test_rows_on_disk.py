"""Rows on disk: the sequence they make, and finding one of them by its id."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data import rejects as rejects_module
from components.data import row_index
from components.data.finished_units import FinishedMarks, UnitRecord
from components.data.plan import plan_rows
from components.data.rejects import Reject, Rejects, write_rejects
from components.data.row_index import RowIndex
from components.data.schema import SourceRow
from components.data.spool import Picked, Spool
from components.data.units import cut_units, mark_rows
from components.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def source_row(number: int, group: int) -> SourceRow:
    name = f"images/{group}/{number}.jpg"
    return {
        "subject": {"id": name, "image": name, "mask": None, "box": (1, 2, 3, 4), "head_box": None},
        "caption": "a red robot on the beach",
        "word": "robot",
        "group": f"subject-{group}",
        "references": None,
        "source": name,
        "licence": None,
    }


@given(st.lists(values, max_size=600), st.data())
def test_it_is_a_sequence_like_any_other(rows: list[Any], data: st.DataObject) -> None:
    spool = Spool(rows)
    assert len(spool) == len(rows) and list(spool) == rows and spool == rows and rows == spool
    assert spool != [*rows, 0] and list(reversed(spool)) == rows[::-1]
    places = st.integers(-len(rows), len(rows) - 1)
    for place in data.draw(st.lists(places, max_size=3)) if rows else []:
        assert spool[place] == rows[place]
    part = data.draw(st.slices(len(rows)))
    assert spool[part] == rows[part]
    with pytest.raises(IndexError):
        spool[len(rows)]
    spool.append("later")
    assert spool[-1] == "later" and len(spool) == len(rows) + 1


def test_what_is_picked_is_read_when_it_is_asked_for() -> None:
    spool = Spool(range(1000), read=lambda value: value * 2)
    picked = Picked(spool, [999, 3, 3])
    assert picked == [1998, 6, 6] and picked[1:] == [6, 6] and picked != [1998, 6] and picked != "abc"
    assert repr(spool) == "Spool([0, 2, 4], …)" and repr(picked) == "Picked([1998, 6, 6])"


def test_a_full_disk_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "w+b"))
    with pytest.raises(DataError, match=r"TMPDIR: no space left .*free some and run again"):
        Spool(["x" * 1000] * 2000)


@pytest.mark.parametrize("colliding", [False, True])
def test_rows_are_found_by_their_ids(colliding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if colliding:
        monkeypatch.setattr(row_index, "digest", lambda text: 7)
    rows = [source_row(number, 0) for number in range(50)]
    index = RowIndex(Spool(rows))
    assert [index.place(row["subject"]["id"]) for row in rows] == list(range(50))
    assert index.find("images/0/50.jpg") is None and len(index) == 50
    with pytest.raises(KeyError):
        index.place("other")


def test_groups_whose_digests_are_equal_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.data import plan

    rows = [source_row(number, number % 3) for number in range(12)]
    apart = plan_rows(rows, 0.5)
    monkeypatch.setattr(plan, "digest", lambda text: 7)
    assert plan_rows(rows, 0.5) == apart


def test_the_memory_of_planned_rows_is_bounded() -> None:
    """Reading aside, what stays in memory of a row is less than a twentieth of what it takes as an object."""
    number = 6000
    rows = Spool(source_row(each, each // 4) for each in range(number))
    tracemalloc.start()
    plan = plan_rows(rows, 0.1)
    marked = mark_rows(plan.jobs, lambda addresses: dict.fromkeys(addresses, "mark"), [], [])
    units = cut_units(marked, 64, {})
    kept, _ = tracemalloc.get_traced_memory()
    held = list(marked)
    objects = tracemalloc.get_traced_memory()[0] - kept
    tracemalloc.stop()
    assert len(held) == number == sum(len(unit.jobs) for unit in units)
    assert kept < 100 * number and objects > 20 * kept


def test_rejected_rows_are_written_in_the_order_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejects_module, "_WRITTEN", 2)
    order = {"a": 0, "b": 1, "c": 2}
    of_rows = [Reject(id, "s", "decode", "broken", "kept") for id in "cab"]
    others = [Reject(f"line {n}", "s", "source", "no caption") for n in (2, 1)]
    rejects = Rejects([others[0], *of_rows, others[1]])
    assert list(rejects) == [others[0], *of_rows, others[1]] and rejects[1].reason == "broken"
    write_rejects(rejects, order.get, tmp_path / "rejects.parquet")
    written = pq.read_table(tmp_path / "rejects.parquet").to_pylist()
    assert [row["id"] for row in written] == ["a", "b", "c", "line 2", "line 1"]
    assert written[0] == of_rows[1]._asdict() and written[3]["kept"] is None
    write_rejects(Rejects(), order.get, tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_the_memory_of_rejected_rows_is_bounded() -> None:
    number = 6000
    rows = Spool({**source_row(each, each), "word": "balloon"} for each in range(number))
    tracemalloc.start()
    plan = plan_rows(rows, 0.1)
    assert all(reject.stage == "word" for reject in plan.rejects)  # what was not written yet is written
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(plan.rejects) == number and not plan.jobs and kept < 100 * number


def test_the_memory_of_marks_of_finished_units_is_bounded() -> None:
    """Neither all marks of finished units are in memory, nor those of rows that wait while no unit is cut anew."""

    def records() -> Iterator[UnitRecord]:
        for unit in units:
            yield UnitRecord(key=unit.key, split=unit.split, marks=unit.marks, rows=[], rejects=[], files={})

    number = 6000
    rows = Spool(source_row(each, each // 4) for each in range(number))
    marked = mark_rows(plan_rows(rows, 0.1).jobs, lambda addresses: dict.fromkeys(addresses, "mark"), [], [])
    units = cut_units(marked, 64, {})
    most = (len(units) + 1) // 2
    tracemalloc.start()
    done = FinishedMarks(islice(records(), most))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    again = cut_units(marked, 64, done)
    cut = tracemalloc.get_traced_memory()[1] - kept
    held = {key: done[key] for key in done}
    tracemalloc.stop()
    assert held == {unit.key: unit.marks for unit in units[:most]} and len(done) == most
    assert [unit.key for unit in again] == [unit.key for unit in units]
    assert kept < 15 * number, "half of the marks take 33 bytes a row in memory"
    assert cut < 65 * number, "marks of rows that wait take 83 bytes a row"
    with pytest.raises(KeyError):
        done["another"]

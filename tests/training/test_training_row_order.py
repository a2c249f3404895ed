"""The order of rows: every row once an epoch, whatever the number of workers, and known from the step alone."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from components.training.partners import Piece, Pieces
from components.training.row_order import RowOrder, Window
from components.training.window_reader import BucketRows, window_work

PIECES = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)
ORDERS = st.builds(
    RowOrder,
    pieces=PIECES,
    batch=st.integers(1, 4),
    lanes=st.integers(1, 4),
    seed=st.integers(0, 50),
    shuffled=st.integers(1, 20),
)

Row = tuple[int, int]


def rows_of_step(order: RowOrder, step: int) -> list[list[Row]]:
    """The micro-batches of one step, by lane."""
    window = order.window(step)
    at = (step - window.start) * order.batch
    lanes = (order.lane_rows(window, lane)[at : at + order.batch] for lane in range(order.lanes))
    return [[(each.piece, each.row) for each in lane] for lane in lanes]


def everything(order: RowOrder) -> set[Row]:
    return {(piece, row) for piece, rows in enumerate(order.pieces) for row in range(rows)}


@given(ORDERS, st.integers(0, 60))
def test_a_step_lies_in_its_window_and_windows_do_not_overlap(order: RowOrder, step: int) -> None:
    window = order.window(step)
    assert window.start <= step < window.stop
    assert all(order.window(other) == window for other in range(window.start, window.stop))
    assert order.window(window.stop).start == window.stop


@given(ORDERS, st.integers(1, 3))
def test_no_row_is_seen_twice_or_skipped_in_an_epoch(order: RowOrder, epochs: int) -> None:
    """After the steps of an epoch each of its rows was seen as often as there were epochs, none more than once more."""
    steps = -(-epochs * order.rows // order.step_rows)
    seen = Counter(row for step in range(steps) for lane in rows_of_step(order, step) for row in lane)
    over = steps * order.step_rows - epochs * order.rows
    assert set(seen) == everything(order)
    assert min(seen.values()) >= epochs
    assert sum(seen.values()) == epochs * order.rows + over
    if over < order.rows:
        assert sorted(seen.values()) == [epochs] * (order.rows - over) + [epochs + 1] * over


@given(ORDERS)
def test_the_same_seed_gives_the_same_order_and_lanes_do_not_share_rows(order: RowOrder) -> None:
    again = RowOrder(order.pieces, order.batch, order.lanes, order.seed, order.shuffled)
    assert [rows_of_step(order, step) for step in range(8)] == [rows_of_step(again, step) for step in range(8)]
    if order.step_rows <= order.rows:
        taken = [row for lane in rows_of_step(order, 0) for row in lane]
        assert len(set(taken)) == len(taken)


def test_seeds_and_epochs_differ() -> None:
    def epoch(seed: int, start: int) -> list[list[list[Row]]]:
        order = RowOrder((8,) * 8, 4, 2, seed, 16)
        return [rows_of_step(order, step) for step in range(start, start + 8)]

    assert epoch(0, 0) != epoch(1, 0)
    assert epoch(0, 0) != epoch(0, 8)


def test_a_lane_reads_few_pieces_a_window() -> None:
    """What a worker loads is what it trains on: a window's rows lie in as many pieces as they fill, and two more."""
    order = RowOrder((32,) * 100, 8, 4, 0, 64)
    for step in islice(range(0, 80, 8), 10):
        pieces = {each.piece for each in order.lane_rows(order.window(step), 1)}
        assert len(pieces) <= 64 // 32 + 2


def test_rows_are_shuffled_within_a_window() -> None:
    order = RowOrder((64,), 4, 1, 0, 64)
    rows = order.lane_rows(order.window(0), 0)
    assert sorted(rows) == [(0, row, 0) for row in range(64)]
    assert rows != sorted(rows)


def test_the_memory_of_many_row_groups_is_bounded(tmp_path: Path) -> None:
    """Every worker holds all row groups of the dataset: as columns, in less than half of what they take as objects."""
    shards = [(f"{number:016x}.parquet", number % 2 == 0, [4] * 32) for number in range(300)]
    groups = 32 * len(shards)
    tracemalloc.start()
    pieces = Pieces(tmp_path / "shards", tmp_path / "references", shards)
    bucket = BucketRows(pieces, RowOrder(tuple(pieces.rows), 4, 2, 0, 64))
    window_work(bucket, Window(0, 4), 0, 4, [0, 1, 2, 3], [0, 1])
    kept, _ = tracemalloc.get_traced_memory()
    objects = list(pieces)
    as_objects = tracemalloc.get_traced_memory()[0] - kept
    tracemalloc.stop()
    assert len(objects) == len(pieces) == groups
    assert objects[33] == Piece(str(tmp_path / "shards" / shards[1][0]), 1, 4, None)
    assert pieces[-1:] == (objects[-1],) and pieces[64].references == str(tmp_path / "references" / shards[2][0])
    assert kept < 60 * groups and as_objects > 150 * groups

"""Print what a prepared dataset holds: counts, buckets, reasons for rejected rows, and sample rows."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.data.report.summary import AcceptedRow, Reason, RejectedRow, Summary, marked, size_of, summarize

#: Maximum number of rows and of pairs that are printed.
_SHOWN = 8
#: Maximum length of a caption in characters.
_CAPTION = 160


def run(dataset: Path) -> None:
    """Print a summary of the prepared ``dataset``."""
    summary = summarize(dataset)
    console = Console()
    console.print(counts(summary), buckets(summary))
    if summary.reasons:
        console.print(reasons(summary.reasons, len(summary.manifest.reasons)))
    if summary.duplicates:
        console.print(duplicates(summary.duplicates[:_SHOWN]))
    console.print(samples(summary.rows[:: max(1, len(summary.rows) // _SHOWN)][:_SHOWN]), made_with(summary))


def counts(summary: Summary) -> Table:
    """Numbers of rows of the source, of each split, and rejected."""
    manifest = summary.manifest
    table = _table("Rows", "", "")
    table.add_row("in", f"{manifest.rows_in:,}")
    for split, rows in manifest.splits.items():
        table.add_row(split, f"{rows:,}")
    table.add_row("left out", f"{manifest.rows_rejected:,}")
    for note, rows in manifest.notes.items():
        table.add_row(f"note: {note}", f"{rows:,}")
    return table


def buckets(summary: Summary, width: int = 30) -> Table:
    """Histogram of the buckets; the longest bar has ``width`` characters."""
    table = _table("Buckets", "width × height", *summary.manifest.splits, "")
    for bucket, splits in summary.buckets.items():
        wide, high = size_of(bucket)
        bar = "━" * max(1, round(width * sum(splits.values()) / summary.fullest))
        numbers = (f"{splits.get(split, 0):,}" for split in summary.manifest.splits)
        table.add_row(f"{wide} × {high}", *numbers, Text(bar, "cyan"))
    return table


def reasons(shown: list[Reason], known: int) -> Table:
    """Reasons for rejected rows, with an example of each, out of ``known`` reasons."""
    table = _table("Left out", "rows", "stage", "reason", "for example")
    for reason in shown:
        example = reason.rows[0].id if reason.rows else ""
        table.add_row(f"{reason.count:,}", reason.stage, Text(reason.reason), Text(example))
    if known > len(shown):
        table.caption = f"and {known - len(shown):,} rarer reasons"
    return table


def duplicates(pairs: list[RejectedRow]) -> Table:
    """Rejected duplicates, each with the row that was kept."""
    table = _table("Duplicates", "left out", "the same as")
    for pair in pairs:
        table.add_row(Text(pair.id), Text(pair.kept or ""))
    return table


def samples(rows: list[AcceptedRow]) -> Table:
    """Sample captions with their target words."""
    table = _table("Samples", "caption", "word", "split", "bucket", "row")
    for row in rows:
        caption = Text()
        for piece, target in marked(row.caption[:_CAPTION], row.word):
            caption.append(piece, "bold reverse" if target else "")
        table.add_row(caption, row.word_from, row.split, row.bucket, Text(row.id))
    return table


def made_with(summary: Summary) -> Table:
    """Source, fingerprint, code version and encoders of the dataset."""
    manifest = summary.manifest
    table = _table("Made with", "", "")
    table.add_row("source", Text(str(manifest.config.get("data", {}).get("source", ""))))
    table.add_row("fingerprint", manifest.fingerprint)
    table.add_row("code", Text(manifest.code))
    for part, identity in manifest.encoders.items():
        table.add_row(part, Text(identity))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


if __name__ == "__main__":
    from workflows.stage import main

    main(run)

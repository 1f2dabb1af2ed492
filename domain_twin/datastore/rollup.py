"""How old history gets smaller: the queries behind each step. Owns what a figure's minute and hour mean.

For each leaf and interval [b, b + width) in which it changed, over the time in which its value was known:
min, max, the time-weighted mean, the value at the end (`last`, with its kind, text and origin; none where it
ceased to be a number), the number of changes, and the seconds in which it was known. An interval in which
nothing changed has no row: the value before it goes on.

`kept` is what remains of the changes themselves: everything but figures (finite integers, decimals and
doubles), all deletions, all gaps, and for each minute a mark of the version that its last figure led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from domain_twin.datastore.catalog import DAY, HOUR, MINUTE, FileKind, quoted
from domain_twin.datastore.encoding import ValueKind
from domain_twin.model import Nanoseconds

COLUMNS = "n, received_at, observed_at, device, path, kind, number, text, origin, deleted, epoch, sequence"
FIGURES = f"({ValueKind.INTEGER:d}, {ValueKind.DECIMAL:d}, {ValueKind.FLOAT:d})"
WIDTHS = {FileKind.MINUTES: MINUTE, FileKind.HOURS: HOUR}
_IS_FIGURE = f"(kind IN {FIGURES} AND NOT deleted AND coalesce(isfinite(number), FALSE))"
_NUMERIC = f"kind BETWEEN {ValueKind.BOOLEAN:d} AND {ValueKind.FLOAT:d} AND isfinite(number)"
_AGGREGATES = (
    'device, path, starts_at, "min", "max", mean, last, "count", known_s, origin,'
    " last_origin, kind, text, last_n"
)


def read(files: Sequence[Path]) -> str:
    """The FROM clause of a list of files."""
    return f"read_parquet([{', '.join(map(quoted, files))}], hive_partitioning=false)"


def last_of_each_leaf(rows: str) -> str:
    """The newest row of each leaf, without deleted ones."""
    # Numbers first, contents by number: a window over whole rows would hold an hour in memory.
    return (
        f"WITH everything AS NOT MATERIALIZED ({rows}), newest AS (SELECT max(n) AS n FROM everything"
        f" WHERE kind < {ValueKind.GAP:d} GROUP BY device, path)"
        f" SELECT {COLUMNS} FROM everything SEMI JOIN newest USING (n)"
        f" WHERE kind < {ValueKind.GAP:d} AND NOT deleted"
    )


def aggregates(changes: Path, base: Path | None, width: Nanoseconds) -> str:
    """One row for each leaf and interval in which it changed; `base`: the state before the changes."""
    before = (
        f"SELECT device, path, number AS v0, origin AS o0 FROM {read([base])} WHERE {_NUMERIC}"
        if base
        else "SELECT '' AS device, '' AS path, 0.0::DOUBLE AS v0, 0::UTINYINT AS o0 WHERE FALSE"
    )
    return f"""
    WITH before AS ({before}),
    told AS (
        SELECT device, path, received_at AS t, n, kind, origin, text, received_at // {width} * {width} AS b,
            CASE WHEN NOT deleted AND {_NUMERIC} THEN number END AS v
        FROM {read([changes])} WHERE kind < {ValueKind.GAP:d}),
    steps AS (
        SELECT told.*, lead(t) OVER leaf AS t_next,
            CASE WHEN row_number() OVER leaf = 1 THEN v0 ELSE lag(v) OVER leaf END AS v_before,
            CASE WHEN row_number() OVER leaf = 1 THEN o0 ELSE lag(origin) OVER leaf END AS o_before,
            row_number() OVER (PARTITION BY device, path, b ORDER BY t, n) = 1 AS opens
        FROM told LEFT JOIN before USING (device, path)
        WINDOW leaf AS (PARTITION BY device, path ORDER BY t, n)),
    pieces AS (
        SELECT *,
            CASE WHEN v IS NULL THEN 0 ELSE least(coalesce(t_next, b + {width}), b + {width}) - t END AS held,
            CASE WHEN opens AND v_before IS NOT NULL THEN t - b ELSE 0 END AS led
        FROM steps),
    sums AS (
        SELECT device, path, b, max(n) AS last_n,
            min(least(v, CASE WHEN led > 0 THEN v_before END)) AS low,
            max(greatest(v, CASE WHEN led > 0 THEN v_before END)) AS high,
            sum(coalesce(v, 0.0) * (held / {width}.0) + coalesce(v_before, 0.0) * (led / {width}.0)) AS total,
            sum(held + led) AS known, count(v) AS changes,
            max(greatest(CASE WHEN v IS NOT NULL THEN origin END,
                CASE WHEN led > 0 THEN o_before END)) AS doubt,
            max_by({{'v': v, 'kind': kind, 'text': text, 'origin': origin}}, n) AS final
        FROM pieces GROUP BY device, path, b HAVING bool_or(v IS NOT NULL OR v_before IS NOT NULL))
    SELECT device, path, b AS starts_at, low AS "min", high AS "max",
        CASE WHEN known > 0 THEN greatest(low, least(high, total / (known / {width}.0))) END AS mean,
        final.v AS last, changes::INTEGER AS "count", known / 1e9 AS known_s,
        coalesce(doubt, 0)::UTINYINT AS origin, final.origin::UTINYINT AS last_origin,
        final.kind::UTINYINT AS kind, final.text AS text, last_n
    FROM sums ORDER BY device, path, starts_at"""


def merged_aggregates(files: Sequence[Path]) -> str:
    """Several files of intervals as one."""
    return f"SELECT {_AGGREGATES} FROM {read(files)} ORDER BY device, path, starts_at"


def merged_rows(files: Sequence[Path]) -> str:
    """Several files of rows as one, in their order."""
    return f"SELECT {COLUMNS} FROM {read(files)} ORDER BY n"


def kept(changes: Path) -> str:
    """What remains of the changes once their figures are in the intervals."""
    return f"""
    SELECT {COLUMNS} FROM {read([changes])} WHERE NOT {_IS_FIGURE}
    UNION ALL
    SELECT max(n) AS n, max_by(received_at, n), max_by(observed_at, n), '', '', {ValueKind.MARK:d}::UTINYINT,
        NULL, NULL, 0::UTINYINT, FALSE, max_by(epoch, n), max_by(sequence, n)
    FROM {read([changes])} WHERE {_IS_FIGURE} GROUP BY received_at // {MINUTE}
    ORDER BY n"""


def figures_at_ends(files: Sequence[Path], width: Nanoseconds, where: str) -> str:
    """The figures that intervals ended with, as rows of changes received at the intervals' ends.

    They have no version; in its place `sequence` is the interval's length in seconds, negative.
    """
    return (
        f"SELECT * FROM (SELECT last_n AS n, starts_at + {width} AS received_at,"
        f" starts_at + {width} AS observed_at, device, path,"
        " kind, last AS number, text, last_origin AS origin, FALSE AS deleted, '' AS epoch,"
        f" {-width // 1_000_000_000}::BIGINT AS sequence FROM {read(files)}"
        f" WHERE last IS NOT NULL AND kind IN {FIGURES}) WHERE {where}"
    )


def changed_points(files: Sequence[Path], end: Nanoseconds, where: str) -> str:
    """The changes of leaves until `end`, of files and of the open hour."""
    query = (
        "SELECT n, received_at AS starts_at, device, path, kind, origin, deleted,"
        " CASE WHEN NOT deleted THEN number END AS number, text FROM {source}"
        f" WHERE kind < {ValueKind.GAP:d} AND received_at <= {int(end)} AND {where}"
    )
    sources = ["changes", *([read(files)] if files else [])]
    return " UNION ALL ".join(query.replace("{source}", source) for source in sources) + " ORDER BY n"


def mean_points(
    files: Sequence[Path], span: tuple[Nanoseconds, Nanoseconds], where: str, *, figures_only: bool
) -> str:
    """The intervals of leaves in a span, and those before that may reach into it."""
    start, end = span
    # What is no figure is still there, change by change.
    only = f" AND kind IN {FIGURES}" if figures_only else ""
    return (
        "SELECT last_n AS n, starts_at, device, path, mean, last, known_s, origin, last_origin"
        f" FROM {read(files)} WHERE starts_at <= {int(end)} AND starts_at > {int(start) - DAY * 40}"
        f" AND {where}{only}"
    )

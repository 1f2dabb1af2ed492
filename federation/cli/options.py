"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

At: TypeAlias = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="SOCKET|PROFILE",
        help="Which twin to ask: an agent's Unix socket, or a client profile (TOML) of a broker."
        " Default: $FEDTWIN_AT, then the demo in this folder.",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead; times are ISO 8601, UTC.")
]
ConfigFile: TypeAlias = Annotated[Path, typer.Argument(show_default=False)]
LogLevel: TypeAlias = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error; goes to stderr.")
]
LogFormat: TypeAlias = Annotated[
    str,
    typer.Option("--log-format", metavar="FORM", help="text, or json: one object a line with typed fields."),
]
Api: TypeAlias = Annotated[
    str,
    typer.Option(
        "--api",
        metavar="PROFILE",
        help="Which api to ask, and as whom: a partner's profile (TOML). Default: $FEDTWIN_API, then the"
        " demo in this folder.",
    ),
]
Last: TypeAlias = Annotated[
    str, typer.Option("--last", metavar="DURATION", help="How far to go back: 90s, 10m, 2h, 1d.")
]
Changes: TypeAlias = list[str] | None
Capacity: TypeAlias = Annotated[
    Changes, typer.Option("--capacity", metavar="LINK=MBPS", help="New capacity; LINK=x2: twice as much.")
]
Demand: TypeAlias = Annotated[
    Changes,
    typer.Option("--demand", metavar="x2", help="Demand: x2, CLASS=x2, 'FROM>TO=x2', 'FROM>TO=MBPS'."),
]

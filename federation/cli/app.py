"""The `fedtwin` application: which commands there are, and how an error is told. Owns exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import click
import typer

from domain_twin.errors import TwinError
from federation.cli import (
    alarms,
    api,
    ask,
    audit,
    authority,
    backup,
    calibrate,
    check,
    deliveries,
    demo,
    deploy,
    faults,
    graph_check,
    history,
    impact,
    inventory,
    jobs,
    learn,
    ontology,
    order,
    processes,
    query,
    recordings,
    scenario,
    simulate,
    tokens,
    train,
    twin,
    watch,
    whatif,
    yang,
)
from federation.cli.doctor import command as doctor
from federation.cli.register import FedtwinGroup

app = typer.Typer(
    name="fedtwin",
    cls=FedtwinGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fedtwin {version('fedtwin')}")
        raise typer.Exit


@app.callback(epilog="\b\nStart here:\n  fedtwin demo")
def fedtwin(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error arose.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Federated network digital twins: one end-to-end twin of several operators' networks.

    None of the operators reveals the inside of its network: each runs a twin agent that discloses what
    its own policy permits, and a broker composes that.
    """
    context.obj = debug


demo.add_to(app)
for part in (
    processes,
    api,
    ask,
    inventory,
    alarms,
    watch,
    query,
    impact,
    graph_check,
    ontology,
    whatif,
    simulate,
    jobs,
    calibrate,
    train,
    learn,
    order,
    twin,
    scenario,
    history,
    faults,
    recordings,
    check,
    yang,
    deliveries,
    doctor,
    deploy,
    audit,
    backup,
):
    part.add_to(app)
authority.add_to(app)
tokens.add_to(app)


@cache
def command() -> click.Command:
    """The application as click runs it; made once, since that takes a sixth of a second."""
    return typer.main.get_command(app)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line. Errors of the product become one message on stderr, unless --debug is given."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines on stderr say less than our messages
    try:
        result: Any = command().main(arguments, prog_name="fedtwin", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "fedtwin"
        tell(f"{error.format_message().rstrip('.')}; see `{where} --help`")
        return error.exit_code
    except click.ClickException as error:
        tell(error.format_message())
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except TwinError as error:
        if debug:
            raise
        tell(str(error) or type(error).__name__)
        return 1
    except BaseExceptionGroup as group:
        if debug:
            raise
        for leaf in _leaves(group):
            tell(str(leaf) if isinstance(leaf, TwinError) else _unforeseen(leaf))
        return 1
    except Exception as error:
        if debug:
            raise
        tell(_unforeseen(error))
        return 1
    return result if isinstance(result, int) else 0


def tell(message: str) -> None:
    """Say what went wrong, on stderr: `error:` before each thing to mend; indented lines belong to it."""
    for line in message.splitlines():
        mark = "" if line.startswith(" ") else click.style("error: ", fg="red", bold=True)
        click.echo(f"{mark}{line}", err=True, color=False if "NO_COLOR" in os.environ else None)


def _unforeseen(error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}".replace("\n", " ")
    return f"this should not have happened ({what}); report what `fedtwin --debug …` shows"


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found

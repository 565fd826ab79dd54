"""`ias-dev up | down | status | logs | env`: the commands behind `make dev-*`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import grpc
import typer
from rich.console import Console

from ias_dev import demo, status
from ias_dev import down as stopping
from ias_dev import model as real_model
from ias_dev import up as starting
from ias_dev.report import Report
from ias_dev.settings import DevError, from_environment

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def up(
    model: Annotated[
        str, typer.Option(help="A model to serve by vLLM: a folder, or an id; none for none.")
    ] = "",
    flags: Annotated[str, typer.Option(help="vLLM's own flags, as one word.")] = "",
) -> None:
    """Starts the stack, or what is missing of it, and prints how to use it."""
    with _reporting_errors():
        settings = from_environment()
        report = Report(_out)
        found = starting.up(settings, report, model, flags)
        served = real_model.chosen(settings)
        values = demo.variables(settings, found)
        report.say()
        report.say(f"IAS is ready.   Base URL     {settings.url}/v1")
        report.say(f"                gRPC         {settings.grpc_target}")
        report.say(f"                API key      {found.api_key}")
        for title, name in (("System Admin", "ADMIN"), ("Org Admin", "DEMO_USER")):
            email, password = values[f"IAS_{name}_EMAIL"], values[f"IAS_{name}_PASSWORD"]
            report.say(f"                {title:12} {email}  {password}")
        report.say(f"                All of it    {settings.dotenv}")
        report.say()
        report.say(demo.curl(settings, found, served.name if served else demo.MODEL))
        report.say()
        report.say("Stop it with `make dev-down`.")


@app.command()
def down(
    purge: Annotated[bool, typer.Option(help="Remove the data as well.")] = False,
) -> None:
    """Stops the stack. Its data stay unless --purge is given."""
    with _reporting_errors():
        stopping.down(from_environment(), Report(_out), purge=purge)
        _out.print("The stack is down" + (" and its data are removed." if purge else "."))


@app.command("status")
def show_status() -> None:
    """Shows what runs; exit code 3 when something doesn't."""
    with _reporting_errors():
        table, running = status.table(from_environment())
        if table.row_count:
            _out.print(table)
        if not running:
            _err.print("Not everything runs; `make dev-up` starts it.")
            raise typer.Exit(3)


@app.command()
def logs(
    programs: Annotated[list[str] | None, typer.Argument(help="Which; all when none.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they grow.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 50,
) -> None:
    """Shows the ends of the programs' logs."""
    with _reporting_errors():
        folder = from_environment().logs
        files = [folder / f"{p}.log" for p in programs or ()] or sorted(folder.glob("*.log"))
        if not files:
            raise DevError("There are no logs yet; `make dev-up` starts the stack.")
        for file in files:
            if not file.exists():
                raise DevError(f"There is no log {file.name} in {folder}.")
        arguments = ["tail", f"--lines={lines}", *(["--follow=name"] if follow else [])]
        sys.stdout.flush()
        os.execv("/usr/bin/tail", [*arguments, *map(str, files)])  # noqa: S606 - no shell wanted


@app.command()
def env() -> None:
    """Prints dev.env: `eval "$(ias-dev env)"`."""
    with _reporting_errors():
        path = from_environment().dotenv
        if not path.exists():
            raise DevError("There is no dev.env yet; `make dev-up` writes it.")
        sys.stdout.write(path.read_text())


@contextmanager
def _reporting_errors() -> Iterator[None]:
    try:
        yield
    except DevError as error:
        _err.print(f"ias-dev: {error}", markup=False)
        raise typer.Exit(1) from None
    except grpc.RpcError as error:
        call = error if isinstance(error, grpc.Call) else None
        what = f"{call.code().name}: {call.details()}" if call else repr(error)
        _err.print(f"ias-dev: a call through Envoy failed with {what}", markup=False)
        raise typer.Exit(1) from None


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()

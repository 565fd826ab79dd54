"""What all commands share: the global options, the connection, and how failures are told.

A command is a function of an `Ias` and its own arguments, registered with `@command`. The global
options may stand before the command or after it; the one that stands after it wins.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import grpc
import typer
from rich.markup import escape

from ias_admin import credentials
from ias_admin.client import DEFAULT_ADDRESS, Address, Connection, Credential, Stubs
from ias_admin.config_file import Config, ConfigFile, default_path
from ias_admin.errors import CliError, from_rpc, wrong_usage
from ias_admin.output import Format, Printer, printable

_PANEL = "Global options"

OutputOption = Annotated[
    Format | None,
    typer.Option("--output", "-o", help="How to print results.", rich_help_panel=_PANEL),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print ids only.", rich_help_panel=_PANEL)
]
YesOption = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Don't ask before a change.", rich_help_panel=_PANEL),
]
GrpcOption = Annotated[
    str | None,
    typer.Option(
        "--grpc",
        metavar="HOST:PORT",
        help="Where IAS listens; https://… for TLS. [IAS_GRPC]",
        rich_help_panel=_PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The configuration. [IAS_CONFIG]", rich_help_panel=_PANEL
    ),
]


@dataclass(frozen=True)
class Options:
    """The global options as given; None and False where they were not."""

    output: Format | None = None
    quiet: bool = False
    yes: bool = False
    grpc: str | None = None
    config: Path | None = None

    def over(self, before: "Options | None") -> "Options":
        """These, completed by those that stood before the command."""
        if before is None:
            return self
        return Options(
            output=self.output or before.output,
            quiet=self.quiet or before.quiet,
            yes=self.yes or before.yes,
            grpc=self.grpc or before.grpc,
            config=self.config or before.config,
        )


class Ias:
    """What a command works with."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @cached_property
    def file(self) -> ConfigFile:
        """The configuration's file."""
        return ConfigFile(self._options.config or default_path(os.environ))

    @cached_property
    def config(self) -> Config:
        """What the file held when the command began."""
        return self.file.read()

    @cached_property
    def address(self) -> Address:
        """From --grpc, IAS_GRPC or the configuration, in this order."""
        given = self._options.grpc or os.environ.get("IAS_GRPC") or self.config.address
        return Address.parse(given or DEFAULT_ADDRESS)

    @cached_property
    def printer(self) -> Printer:
        """From -o or the configuration; tables otherwise."""
        form = self._options.output or Format(self.config.output or Format.TABLE)
        return Printer(form, quiet=self._options.quiet)

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.address)

    @cached_property
    def public(self) -> Stubs:
        """For what anyone may call."""
        return self._connection.anonymous()

    @cached_property
    def stubs(self) -> Stubs:
        """For what a person may call who signed in."""
        return self.acting_with(
            credentials.credential(os.environ, self.file, str(self.address), self.public)
        )

    def acting_with(self, credential: Credential) -> Stubs:
        """For what someone else may call: an API key, or another session."""
        return self._connection.acting_with(credential)

    def confirm(self, question: str) -> None:
        """Returns when the user agrees. Raises CliError when they don't or can't be asked."""
        if self._options.yes:
            return
        if not sys.stdin.isatty():
            raise wrong_usage(
                f"Not confirmed: {question}", "Nobody can be asked here; add --yes to go ahead."
            )
        if not typer.confirm(printable(question), err=True):
            raise CliError("Nothing was changed.")

    def close(self) -> None:
        """Ends the connection, if one was opened."""
        if "_connection" in self.__dict__:
            self._connection.close()


def say(text: str) -> None:
    """Tells the person something that is no result, on stderr."""
    sys.stderr.write(printable(text) + "\n")


Command = TypeVar("Command", bound=Callable[..., None])


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str], panel: str | None = None
) -> Callable[[Command], Command]:
    """Registers a function `f(ias, …)` as a command; `examples` are whole command lines."""

    def register(function: Command) -> Command:
        @functools.wraps(function)
        def run(
            *,
            ctx: typer.Context,
            output: Format | None,
            quiet: bool,
            yes: bool,
            grpc: str | None,
            config: Path | None,
            **arguments: Any,
        ) -> None:
            given = Options(output, quiet, yes, grpc, config).over(ctx.obj)

            def checked(ias: Ias) -> None:
                for argument in arguments.values():
                    str(argument).encode()
                function(ias, **arguments)

            _told(Ias(given), checked)

        run.__signature__ = _signature(function)  # type: ignore[attr-defined]
        app.command(name, epilog=epilog(examples), rich_help_panel=panel, no_args_is_help=False)(
            run
        )
        return function

    return register


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The function's own parameters without the first, then the global options."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter("ctx", keyword, annotation=typer.Context),
            *(parameter.replace(kind=keyword) for parameter in own),
            inspect.Parameter("output", keyword, annotation=OutputOption, default=None),
            inspect.Parameter("quiet", keyword, annotation=QuietOption, default=False),
            inspect.Parameter("yes", keyword, annotation=YesOption, default=False),
            inspect.Parameter("grpc", keyword, annotation=GrpcOption, default=None),
            inspect.Parameter("config", keyword, annotation=ConfigOption, default=None),
        ]
    )


def _told(ias: Ias, run: Callable[[Ias], None]) -> None:
    """Runs a command; a failure becomes two lines on stderr and an exit code."""
    try:
        run(ias)
    except CliError as error:
        _fail(error)
    except grpc.RpcError as error:
        _fail(from_rpc(error, str(ias.address)))
    except UnicodeError:  # what the shell or a pipe gave us was no text to begin with
        _fail(wrong_usage("An argument, or what was piped in, is not valid UTF-8."))
    finally:
        ias.close()


def _fail(error: CliError) -> None:
    say(f"Error: {error.what}")
    if error.hint:
        say(error.hint)
    raise typer.Exit(error.exit_code)


def epilog(examples: Sequence[str]) -> str:
    """Command lines to learn from, under a command's help."""
    # Typer drops single line breaks but keeps empty lines as one.
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {escape(line)}" for line in examples)])


def group(name: str, sentence: str, examples: Sequence[str]) -> typer.Typer:
    """A noun: its name, and what its commands are about."""
    return typer.Typer(
        name=name,
        help=sentence,
        epilog=epilog(examples),
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )


def secret_from(stdin: bool, prompt: str, *, twice: bool = False) -> str:
    """A password: the next line of standard input, or asked for without an echo."""
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise wrong_usage(
            f"{prompt} is needed, and nobody can be asked here.", "Pipe it in; see --help."
        )
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))

"""ias-admin as people run it: a process of its own, with and without a terminal."""

import os
import pty

import pytest
from ias.inference.v1 import models_pb2

from .fake_ias import PASSWORD, SECRET_KEY


@pytest.fixture
def key(ias):
    ann = next(one for one in ias.users.values() if one.email == "ann@acme.org")
    return ias.key("ci", ann)


def on_a_terminal(cli, *arguments, asked, typed):
    """Runs it with a terminal as its stdin, on which something is typed once it was asked for.

    Gives its exit code, its stdout and its stderr.
    """
    ours, theirs = pty.openpty()
    try:
        with cli.started(*arguments, stdin=theirs) as process:
            told = ""
            while asked not in told:
                piece = os.read(process.stderr.fileno(), 1000).decode()
                assert piece, f"ended without asking: {told}"
                told += piece
            os.write(ours, typed)
            stdout, rest = process.communicate(timeout=30)
            return process.returncode, stdout, told + rest
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_process_prints_results_alone_on_stdout(ann):
    done = ann.process("org", "list", "-q")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""


def test_exit_codes_reach_the_shell(ann, cli):
    assert ann.process("org", "get", "nothing").returncode == 4
    assert ann.process("org", "nothing").returncode == 2


def test_a_destructive_command_asks_and_takes_no_for_an_answer(ann, key):
    code, _, told = on_a_terminal(
        ann, "key", "revoke", "ci", asked="Revoke the API key ci", typed=b"n\n"
    )
    assert code == 1
    assert "Nothing was changed" in told
    assert not key.HasField("revoke_time")


def test_a_destructive_command_goes_ahead_when_told_to(ann, key):
    code, printed, _ = on_a_terminal(
        ann, "key", "revoke", "ci", "-q", asked="for good?", typed=b"y\n"
    )
    assert code == 0
    assert printed.strip() == key.id
    assert key.HasField("revoke_time")


def test_a_password_is_asked_for_without_an_echo(cli):
    code, printed, told = on_a_terminal(
        cli, "login", "--email", "ann@acme.org", asked=": ", typed=f"{PASSWORD}\n".encode()
    )
    assert code == 0, told
    assert PASSWORD not in printed + told
    assert "Signed in" in told


def test_a_conversation_remembers_its_turns(cli, ias):
    ias.models["mock-gpt"] = models_pb2.Model(name="mock-gpt")
    cli.env["IAS_API_KEY"] = SECRET_KEY
    code, printed, told = on_a_terminal(
        cli, "chat", "mock-gpt", asked="> ", typed=b"One\nTwo\n/exit\n"
    )
    assert code == 0, told
    assert printed == "Hello, world\nHello, world\n"
    contents = [turn.content for turn in ias.requests[-1].messages]
    assert contents == ["One", "Hello, world", "Two"]


def test_a_closed_pipe_is_no_traceback(ann):
    done = ann.shell("org list -o json | true")
    assert "Traceback" not in done.stderr

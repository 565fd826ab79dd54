"""What of a stack runs, as a table."""

from rich.table import Table

from ias_dev import keys, stack, urls
from ias_dev.settings import Settings
from ias_dev.supervisor import State, Supervisor

_STOPPED = State(name="", state="STOPPED", pid=0, uptime_s=0)


def table(settings: Settings) -> tuple[Table, bool]:
    """The table, and whether everything runs."""
    settings = urls.without_own(settings)
    states: dict[str, State] = {}
    rows = Table("program", "state", "pid", "port", "uptime")
    if not keys.exist(settings.folder):
        return rows, False
    supervisor = Supervisor(settings)
    if supervisor.alive():
        states = {state.name: state for state in supervisor.states()}
    wanted = stack.programs(settings, keys.load(settings.folder))
    for program in wanted:
        state = states.get(program.name, _STOPPED)
        rows.add_row(
            program.name,
            state.state,
            str(state.pid or ""),
            str(program.ports[0]) if program.ports else "",
            _duration(state.uptime_s) if state.pid else "",
        )
    running = all(states.get(p.name, _STOPPED).state == "RUNNING" for p in wanted)
    return rows, running


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"

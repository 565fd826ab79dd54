"""Starts a stack, or what is missing of it. A second run finds everything there, and is quick."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ias_dev import (
    demo,
    envoy,
    keys,
    orphans,
    ports,
    postgres,
    programs,
    rabbitmq,
    redis,
    seed,
    services,
    stack,
    urls,
)
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.report import Report
from ias_dev.settings import SERVICES, Settings
from ias_dev.supervisor import Supervisor


def up(settings: Settings, report: Report) -> demo.Demo:
    """The whole stack, with the demo data. Raises DevError with what to do about it."""
    settings = urls.without_own(settings)
    with stack.lock(settings):
        known = keys.load(settings.folder)
        supervisor = Supervisor(settings)
        with report.step("Configuration"):
            prepare_servers(settings, known)
            envoy.prepare(settings)
            wanted = stack.programs(settings, known)
            launch(supervisor, wanted)
        start_servers(settings, known, supervisor, report)
        started = start_services(settings, known, supervisor, report)
        with report.step(f"Envoy on {settings.grpc_target}"):
            started = supervisor.run(envoy.NAME) or started
            supervisor.run(envoy.WATCH)
            envoy.wait(settings)
        return _ensure_demo(settings, known, report, probe=started)


def start_only_servers(settings: Settings, report: Report) -> Keys:
    """PostgreSQL, Redis and RabbitMQ alone, as the tests of the services need them."""
    with stack.lock(settings):
        known = keys.load(settings.folder)
        supervisor = Supervisor(settings)
        prepare_servers(settings, known)
        launch(supervisor, stack.servers(settings))
        start_servers(settings, known, supervisor, report)
        return known


def prepare_servers(settings: Settings, known: Keys) -> None:
    """Makes the configuration, and the data folders, of the private servers."""
    if not settings.external_database_url:
        postgres.prepare(settings, known)
    if not settings.external_redis_url:
        redis.prepare(settings, known)
    if not settings.external_amqp_url:
        rabbitmq.prepare(settings, known)


def launch(supervisor: Supervisor, wanted: Sequence[Program]) -> None:
    """Brings supervisord to know exactly the wanted programs; starts none of them."""
    for program in wanted:
        programs.prepare(program)
    if not supervisor.alive():
        orphans.end(wanted)
    supervisor.configure(wanted)
    running = {s.name for s in supervisor.states() if s.pid} if supervisor.alive() else set()
    # A program that ended for a moment must not look like one whose port another took.
    ports.require_free(
        (port, program.title)
        for program in wanted
        if program.name not in running
        for port in program.ports
    )
    supervisor.start()
    supervisor.reload()


def start_servers(settings: Settings, known: Keys, supervisor: Supervisor, report: Report) -> None:
    """Starts the private servers, all at once, and waits for each, own or others'."""
    for program in stack.servers(settings):
        supervisor.run(program.name)
    external = settings.external_database_url
    with report.step(f"PostgreSQL {_where(external, settings.ports.postgres)}"):
        if not external:
            postgres.wait(settings, known)
    with report.step(f"Redis {_where(settings.external_redis_url, settings.ports.redis)}"):
        redis.wait(settings, known)
    with report.step(f"RabbitMQ {_where(settings.external_amqp_url, settings.ports.rabbitmq)}"):
        rabbitmq.wait(settings, known)


def start_services(settings: Settings, known: Keys, supervisor: Supervisor, report: Report) -> bool:
    """Migrates and starts the services that don't run; whether there was one."""
    missing = [name for name in SERVICES if not supervisor.state(name).pid]
    if missing:
        with report.step("Migrations"):
            services.migrate(settings, known)
        with report.step("System Admin"):
            services.bootstrap(settings, known)
    with report.step(", ".join(SERVICES)):
        for name in missing:
            supervisor.run(name)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda name: services.wait(settings, name), SERVICES))
    return bool(missing)


def _ensure_demo(settings: Settings, known: Keys, report: Report, *, probe: bool) -> demo.Demo:
    found = demo.read(settings, known)
    if found is None or not demo.works(settings, found):
        with report.step("Organisation demo, its budget, user, key and model"):
            found = seed.seed(settings, known)
            demo.write(settings, found)
        probe = True
    else:
        demo.write(settings, found)
    if probe:
        with report.step("A chat completion through Envoy"):
            demo.wait_for_completion(settings, found)
    return found


def _where(external: str, port: int) -> str:
    return "(of the environment)" if external else f"on 127.0.0.1:{port}"

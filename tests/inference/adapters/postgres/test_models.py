"""The registry on a real Postgres: stored, audited, and hot in every process."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import ias_testing
import pytest
from ias.inference.v1 import models_pb2 as pb
from inference_support import Gateway, a_gateway, an_admin

from ias_inference.adapters.postgres import model_changes
from ias_inference.adapters.postgres.model_changes import ModelChanges
from ias_inference.adapters.postgres.models import PostgresModels
from ias_inference.domain.models import Registry
from ias_runtime import postgres

ADMIN = ias_testing.signed(an_admin(), x_request_id="req-9")


@pytest.fixture
async def management(pool: postgres.Pool) -> AsyncIterator[Gateway]:
    async with a_gateway(store=PostgresModels(pool)) as opened:
        yield opened


def a_model(name: str = "org/llama", **facts: object) -> pb.Model:
    backend = pb.Backend(engine="ENGINE_KIND_OPENAI", url="http://host:1/v1", api_key="s3cret")
    return pb.Model(**({"name": name, "backend": backend} | facts))  # type: ignore[arg-type]


async def create(gateway: Gateway, model: pb.Model) -> pb.Model:
    request = pb.CreateModelRequest(model=model)
    return (await gateway.management.CreateModel(request, metadata=ADMIN)).model


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_model_is_registered_with_defaults_and_without_its_secret(
    management: Gateway,
) -> None:
    created = await create(management, a_model(prompt_price_nanos=5))
    assert created.enabled
    assert created.display_name == "org/llama"
    assert created.max_output_tokens == 4096
    assert created.backend.upstream_model == "org/llama"
    assert created.backend.api_key == "********"
    assert created.create_time.seconds > 0
    got = await management.management.GetModel(pb.GetModelRequest(name="org/llama"), metadata=ADMIN)
    assert got.model == created


async def test_every_change_is_audited_without_the_secret(
    management: Gateway, pool: postgres.Pool
) -> None:
    await create(management, a_model("audited"))
    ask = management.management
    await ask.DisableModel(pb.DisableModelRequest(name="audited"), metadata=ADMIN)
    await ask.DisableModel(pb.DisableModelRequest(name="audited"), metadata=ADMIN)
    await ask.EnableModel(pb.EnableModelRequest(name="audited"), metadata=ADMIN)
    rows = await pool.fetch(
        "select * from audit.entries where resource_id = 'audited' order by sequence"
    )
    assert [row["action"] for row in rows] == ["model.create", "model.disable", "model.enable"]
    assert {row["request_id"] for row in rows} == {"req-9"}
    assert all("s3cret" not in str(dict(row)) for row in rows)
    assert rows[1]["before"]["enabled"]
    assert not rows[1]["after"]["enabled"]


async def test_a_name_is_taken_once(management: Gateway) -> None:
    import grpc

    await create(management, a_model("taken"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(management, a_model("taken"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"name": ""}, "model.name"),
        ({"name": "-x"}, "model.name"),
        ({"name": "a b"}, "model.name"),
        ({"name": "x" * 201}, "model.name"),
        ({"name": "x'; drop table inference.models; --"}, "model.name"),
        ({"prompt_price_nanos": -1}, "model.prompt_price_nanos"),
        ({"context_length": -1}, "model.context_length"),
        ({"max_output_tokens": 2**40}, "model.max_output_tokens"),
        ({"backend": pb.Backend()}, "model.backend.engine"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_OPENAI")}, "model.backend.url"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_MOCK", url="mock:?x=1")}, "model.backend.url"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_MOCK", url="http://h")}, "model.backend.url"),
    ],
)
async def test_a_bad_model_is_refused_by_field(
    management: Gateway, facts: dict[str, object], field: str
) -> None:
    import grpc

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(management, a_model(**facts))  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(field)


async def test_the_list_is_paged_by_name(management: Gateway) -> None:
    for name in ("b", "a", "c"):
        await create(management, a_model(name))
    seen, token = [], ""
    while True:
        page = await management.management.ListModels(
            pb.ListModelsRequest(page_size=2, page_token=token), metadata=ADMIN
        )
        seen.append([model.name for model in page.models])
        token = page.next_page_token
        if not token:
            break
    assert seen == [["a", "b"], ["c"]]


async def test_an_unknown_model_is_not_found(management: Gateway) -> None:
    import grpc

    for name in ("ghost", "", "a\x00b"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await management.management.GetModel(pb.GetModelRequest(name=name), metadata=ADMIN)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await management.management.EnableModel(
                pb.EnableModelRequest(name=name), metadata=ADMIN
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_change_is_hot_in_every_process(
    management: Gateway, inference_database: str
) -> None:
    one, other = Registry(), Registry()
    async with ModelChanges(inference_database, one), ModelChanges(inference_database, other):
        await create(management, a_model("hot"))
        await until(lambda: len(one.enabled()) == len(other.enabled()) == 1)
        assert one.get("hot").backend.api_key == "s3cret"
        known = one.get("hot")
        await create(management, a_model("hotter"))
        await until(lambda: len(one.enabled()) == 2)
        assert one.get("hot") is known
        request = pb.DisableModelRequest(name="hot")
        await management.management.DisableModel(request, metadata=ADMIN)
        await until(lambda: len(one.enabled()) == len(other.enabled()) == 1)


async def test_the_registry_stays_while_postgres_is_away_and_catches_up(
    management: Gateway, inference_database: str, pool: postgres.Pool
) -> None:
    registry = Registry()
    await create(management, a_model("first"))
    async with ModelChanges(inference_database, registry):
        await pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'ias-inference-registry'"
        )
        assert registry.get("first")
        await create(management, a_model("second"))
        async with asyncio.timeout(3):
            while len(registry.enabled()) < 2:
                await asyncio.sleep(0.01)


async def test_a_lost_notification_is_made_up_for_by_the_poll(
    management: Gateway, inference_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None:
        pass

    monkeypatch.setattr(asyncpg.Connection, "add_listener", deaf)
    monkeypatch.setattr(model_changes, "POLL_S", 0.05)
    registry = Registry()
    async with ModelChanges(inference_database, registry):
        await create(management, a_model("silent"))
        await until(lambda: len(registry.enabled()) == 1)

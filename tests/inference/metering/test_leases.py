"""Draws on leases: what fits, who waits, what is refused, and that nothing is overspent."""

import asyncio
import time

import pytest

from ias_runtime.errors import IasError, ResourceExhausted, Unavailable

UNIT = 100


async def draw(leases, caller, need=UNIT, want=None, whole=False):
    return await leases.draw(caller, need=need, want=want or need, whole=whole)


async def outcomes(leases, caller, count, *, use, hold_s=0.05, need=UNIT, want=None):
    """How `count` requests at once ended: the tokens each used, or the error it got."""

    async def request():
        try:
            held = await draw(leases, caller, need, want)
        except IasError as error:
            return error
        await asyncio.sleep(hold_s)
        leases.settle(held, use)
        return use

    return await asyncio.gather(*(request() for _ in range(count)))


async def eventually(condition, timeout_s=3.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_first_draw_acquires_and_the_next_costs_no_call(leasing, caller):
    leases = await leasing.process()
    first = await draw(leases, caller)
    calls = len(leasing.metering.calls)
    coroutine = leases.draw(caller, need=UNIT, want=UNIT, whole=False)
    with pytest.raises(StopIteration) as returned:  # it ends without ever suspending
        coroutine.send(None)
    second = returned.value.value
    assert (first.tokens, second.tokens) == (UNIT, UNIT)
    assert first.lease_id == second.lease_id
    assert len(leasing.metering.calls) == calls == 1


async def test_while_there_is_plenty_the_usual_is_drawn_and_the_whole_on_demand(leasing, caller):
    leases = await leasing.process()
    assert (await draw(leases, caller, 10, 1000)).tokens == 10
    assert (await draw(leases, caller, 10, 1000, whole=True)).tokens == 1000


async def test_a_steady_rate_costs_hardly_any_calls(leasing, caller):
    leases = await leasing.process()
    for _ in range(2000):
        leases.settle(await draw(leases, caller), UNIT)
        await asyncio.sleep(0)
    assert len(leasing.metering.calls) < 20


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("limit", [10 * UNIT, 11 * UNIT - 1])
async def test_of_200_requests_against_room_for_ten_exactly_ten_are_granted(
    leasing, caller, processes, limit
):
    leasing.metering.limit = limit
    leases = [await leasing.process() for _ in range(processes)]
    shares = [200 // processes + (n < 200 % processes) for n in range(processes)]
    ended = await asyncio.gather(
        *(outcomes(one, caller, share, use=UNIT) for one, share in zip(leases, shares, strict=True))
    )
    answers = [answer for part in ended for answer in part]
    assert len(answers) == 200
    assert answers.count(UNIT) == 10
    refused = [answer for answer in answers if answer != UNIT]
    assert {type(error) for error in refused} == {ResourceExhausted}


@pytest.mark.parametrize("processes", [1, 3])
async def test_the_usual_and_the_longest_answer_differ_and_still_exactly_ten_are_granted(
    leasing, caller, processes
):
    leasing.metering.limit = 10 * UNIT
    leases = [await leasing.process() for _ in range(processes)]

    async def request(one):
        try:
            held = await draw(one, caller, UNIT // 4, UNIT)
        except ResourceExhausted:
            return "refused"
        await asyncio.sleep(0.02)
        while held.tokens < UNIT:
            if not await one.extend(held, tokens=UNIT // 4):
                one.settle(held, held.tokens)
                return "cut off"
        one.settle(held, UNIT)
        return "answered"

    ended = await asyncio.gather(*(request(leases[n % processes]) for n in range(200)))
    assert ended.count("answered") == 10
    assert ended.count("cut off") == 0


@pytest.mark.parametrize("processes", [1, 3])
async def test_what_is_given_back_admits_more_but_only_what_fits(leasing, caller, processes):
    leasing.metering.limit = 10 * UNIT
    leases = [await leasing.process() for _ in range(processes)]
    used = UNIT * 2 // 5
    ended = await asyncio.gather(
        *(outcomes(one, caller, 100, use=used, hold_s=0.02) for one in leases)
    )
    granted = sum(part.count(used) for part in ended)
    # The last is admitted while a whole unit is left.
    assert granted == (10 * UNIT - UNIT) // used + 1
    await eventually(lambda: not leasing.metering.leases)
    assert leasing.metering.spent == granted * used


async def test_a_refusal_names_the_scope_the_limit_and_the_reset_time(leasing, caller):
    leasing.metering.limit = 50
    leases = await leasing.process()
    with pytest.raises(ResourceExhausted) as refused:
        await draw(leases, caller)
    assert refused.value.reason == "INSUFFICIENT_QUOTA"
    assert refused.value.message == (
        "The monthly token budget of your organization is used up (limit 50 tokens). "
        "It resets at 2026-12-01T00:00:00Z."
    )
    assert refused.value.metadata == {
        "scope": "organization",
        "reset_time": "2026-12-01T00:00:00Z",
        "limit_tokens": "50",
    }


async def test_a_flood_of_refused_requests_costs_hardly_any_calls(leasing, caller):
    leasing.metering.limit = 0
    leases = await leasing.process()
    for _ in range(500):
        with pytest.raises(ResourceExhausted):
            await draw(leases, caller)
    assert len(leasing.metering.calls) < 5


async def test_a_raised_budget_acts_soon(leasing, caller):
    leasing.metering.limit = 0
    leases = await leasing.process()
    with pytest.raises(ResourceExhausted):
        await draw(leases, caller)
    leasing.metering.limit = 10 * UNIT
    async with asyncio.timeout(2):
        while True:
            try:
                held = await draw(leases, caller)
                break
            except ResourceExhausted:
                await asyncio.sleep(0.05)
    leases.settle(held, UNIT)


async def test_near_the_limit_the_longest_answer_is_drawn_and_others_wait_in_order(leasing, caller):
    leasing.metering.limit = 120
    leases = await leasing.process()
    first = await draw(leases, caller, 10, 100)
    assert first.tokens == 100 or leasing.metering.limit - first.tokens >= 90
    order = []

    async def later(name):
        held = await draw(leases, caller, 10, 100)
        order.append(name)
        leases.settle(held, 1)

    waiting = [asyncio.create_task(later(name)) for name in "abc"]
    await asyncio.sleep(0.1)
    assert order == []
    leases.settle(first, 5)
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_when_nothing_can_come_back_a_request_gets_what_is_left(leasing, caller):
    leasing.metering.limit = 60
    leases = await leasing.process()
    held = await draw(leases, caller, 10, 1000)
    assert held.tokens == 60
    leases.settle(held, 60)
    with pytest.raises(ResourceExhausted):
        await draw(leases, caller, 10, 1000)


async def test_a_stream_that_outgrows_its_draw_gets_more_until_the_budget_ends(leasing, caller):
    leasing.metering.limit = 1000
    leases = await leasing.process()
    held = await draw(leases, caller, 100, 100)
    grown = 0
    while await leases.extend(held, tokens=64):
        grown += 1
    assert held.tokens == 100 + 64 * grown
    assert 1000 - 64 < held.tokens <= 1000
    leases.settle(held, held.tokens)
    assert not await leases.extend(held, tokens=1)


async def test_what_an_engine_counted_beyond_the_draw_is_taken_out_of_the_budget(leasing, caller):
    leasing.metering.limit = 10_000
    leases = await leasing.process()
    held = await draw(leases, caller, 10, 10)
    leases.settle(held, 500)
    await eventually(lambda: leasing.metering.leased >= 500 or leasing.metering.spent == 500)
    await eventually(lambda: not leasing.metering.leases)
    assert leasing.metering.spent == 500


async def test_an_idle_lease_is_released_with_what_was_used(leasing, caller):
    leases = await leasing.process()
    held = await draw(leases, caller)
    await asyncio.sleep(0.5)
    assert leasing.metering.released == {}  # a request is in flight
    leases.settle(held, 30)
    await eventually(lambda: leasing.metering.released == {held.lease_id: 30})
    again = await draw(leases, caller)
    assert again.lease_id != held.lease_id


async def test_a_request_waits_for_what_another_process_gives_back(leasing, caller):
    leasing.metering.limit = UNIT
    one, other = await leasing.process(), await leasing.process()
    held = await draw(one, caller)
    waiting = asyncio.create_task(draw(other, caller))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    one.settle(held, 0)
    assert (await waiting).tokens == UNIT


async def test_patience_with_other_processes_ends(leasing, caller):
    leasing.metering.limit = UNIT
    one, other = await leasing.process(), await leasing.process()
    await draw(one, caller)
    started = time.monotonic()
    with pytest.raises(ResourceExhausted):
        await draw(other, caller)
    assert 0.5 < time.monotonic() - started < 2


async def test_without_metering_what_is_in_hand_goes_on_and_the_rest_is_unavailable(
    leasing, caller
):
    leases = await leasing.process()
    held = await draw(leases, caller)  # acquires for some requests more
    await leasing.stop()
    assert (await draw(leases, caller)).tokens == UNIT
    with pytest.raises(Unavailable) as error:
        await draw(leases, caller, 1_000_000)
    assert error.value.metadata == {"dependency": "metering"}
    assert (await draw(leases, caller)).tokens == UNIT
    assert not await leases.extend(held, tokens=1_000_000)
    await leasing.start()
    await asyncio.sleep(0.5)
    assert (await draw(leases, caller, 1_000_000)).tokens == 1_000_000


async def test_a_lease_is_not_used_beyond_its_life(leasing, caller):
    leasing.metering.ttl_s = 1.0
    leases = await leasing.process()
    await draw(leases, caller)
    await leasing.stop()
    assert (await draw(leases, caller)).tokens == UNIT
    await asyncio.sleep(1)
    with pytest.raises(Unavailable):
        await draw(leases, caller)


@pytest.mark.parametrize("off_s", [-300, -29.9, 300])
async def test_a_clock_that_differs_from_meterings_stops_nothing(leasing, caller, off_s):
    leasing.metering.ttl_s = 30 + off_s
    leasing.metering.period_end_s = time.time() + off_s
    leases = await leasing.process()
    for _ in range(100):
        leases.settle(await draw(leases, caller), UNIT)
    assert len(leasing.metering.calls) < 20


async def test_a_lease_that_ended_at_metering_is_replaced(leasing, caller):
    leases = await leasing.process()
    held = await draw(leases, caller)
    leasing.metering.leases.clear()
    big = await draw(leases, caller, 1_000_000)
    assert big.lease_id != held.lease_id
    leases.settle(held, 10)
    leases.settle(big, 10)
    await eventually(lambda: leasing.metering.released == {big.lease_id: 10})


async def test_a_lease_in_use_is_prolonged(leasing, caller):
    leases = await leasing.process()
    held = await draw(leases, caller)
    account = leases._accounts[caller.api_key_id]
    before = account.lease.expires_at
    account.lease.renew_at = 0.0
    await eventually(lambda: account.lease.expires_at > before)
    assert leasing.metering.calls == ["acquire", "renew"]
    leases.settle(held, 1)


async def test_after_the_end_of_the_period_a_new_lease_is_drawn_on(leasing, caller):
    leases = await leasing.process()
    leasing.metering.period_end_s = time.time() + 0.2
    old = await draw(leases, caller)
    await asyncio.sleep(0.3)
    leasing.metering.period_end_s = None
    new = await draw(leases, caller)
    assert new.lease_id != old.lease_id
    assert await leases.extend(old, tokens=10)  # a request stays in the period of its start
    assert old.lease_id in leasing.metering.leases
    leases.settle(old, 110)
    await eventually(lambda: leasing.metering.released.get(old.lease_id) == 110)


async def test_a_client_that_leaves_while_waiting_keeps_nothing(leasing, caller):
    leasing.metering.limit = 2 * UNIT
    leases = await leasing.process()
    held = await draw(leases, caller, 2 * UNIT)
    leaving = [asyncio.create_task(draw(leases, caller)) for _ in range(5)]
    await asyncio.sleep(0.05)
    leases.settle(held, 0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert (await draw(leases, caller, 2 * UNIT)).tokens == 2 * UNIT


async def test_closing_gives_everything_back(leasing, caller):
    leasing.metering.limit = 10 * UNIT
    async with await leasing.process() as leases:
        leases.settle(await draw(leases, caller), 40)
    assert leasing.metering.leases == {}
    assert leasing.metering.spent == 40
    with pytest.raises(Unavailable):
        await draw(leases, caller)


async def test_the_budget_is_shown_with_what_is_in_hand(leasing, caller):
    leases = await leasing.process()
    assert leases.budget(caller) is None
    leasing.metering.limit = 1000
    held = await draw(leases, caller)
    assert leases.budget(caller).remaining_tokens == 1000
    leases.settle(held, 60)
    state = leases.budget(caller)
    assert (state.scope, state.limit_tokens, state.remaining_tokens) == ("organization", 1000, 940)

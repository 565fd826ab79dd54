"""Whatever requests do in several processes: nothing is overspent, and all comes back."""

import asyncio
from contextlib import AsyncExitStack

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ias_inference.adapters.leases import Timing
from ias_runtime.caller import Caller, CallerKind
from ias_runtime.errors import ResourceExhausted, Unavailable

PROCESSES = 3
KEYS = 2
TIMING = Timing(
    idle=0.03,
    scarce_idle=0.02,
    poll_first=0.005,
    poll=0.02,
    patience=0.05,
    queue=0.2,
    refusal=0.02,
    down=0.01,
    margin=0.0,
)

sizes = st.integers(1, 300)
steps = st.one_of(
    st.tuples(
        st.just("draw"), st.integers(0, PROCESSES - 1), st.integers(0, KEYS - 1), sizes, sizes
    ),
    st.tuples(st.just("settle"), st.integers(0, 50), st.floats(0, 1)),
    st.tuples(st.just("extend"), st.integers(0, 50), sizes),
    st.tuples(st.just("leave"), st.integers(0, 50)),
    st.tuples(st.just("pause"), st.sampled_from([0.0, 0.005, 0.05])),
    st.tuples(st.just("metering down or up")),
)


class Run:
    """One made-up history, with an oracle of what is drawn and used."""

    def __init__(self, leasing, processes):
        self.leasing = leasing
        self.processes = processes
        self.waiting = []
        self.drawn = []
        self.used = 0
        self.up = True

    async def request(self, process, key, need, want):
        caller = Caller(
            CallerKind.API_KEY, organization_id="o", user_id="u", api_key_id=f"key {key}"
        )
        leases = self.processes[process]
        try:
            draw = await leases.draw(caller, need=need, want=want, whole=want % 2 == 0)
        except (ResourceExhausted, Unavailable):
            return
        assert need <= draw.tokens <= want
        self.drawn.append((leases, draw))

    async def step(self, name, *facts):
        if name == "draw":
            process, key, one, other = facts
            need, want = sorted((one, other))
            task = asyncio.create_task(self.request(process, key, need, want))
            self.waiting.append(task)
        elif name == "settle" and self.drawn:
            leases, draw = self.drawn.pop(facts[0] % len(self.drawn))
            self.settle(leases, draw, int(draw.tokens * facts[1]))
        elif name == "extend" and self.drawn:
            leases, draw = self.drawn[facts[0] % len(self.drawn)]
            before = draw.tokens
            extended = await leases.extend(draw, tokens=facts[1])
            assert draw.tokens == before + facts[1] * extended
        elif name == "leave" and self.waiting:
            self.waiting[facts[0] % len(self.waiting)].cancel()
        elif name == "pause":
            await asyncio.sleep(facts[0])
        elif name == "metering down or up":
            await (self.leasing.stop() if self.up else self.leasing.start())
            self.up = not self.up
        await asyncio.sleep(0)
        self.check()

    def settle(self, leases, draw, used):
        leases.settle(draw, used)
        self.used += used

    def check(self):
        in_flight = sum(draw.tokens for _, draw in self.drawn)
        assert in_flight + self.used <= self.leasing.metering.limit

    async def end(self):
        if not self.up:
            await self.leasing.start()
        while self.waiting:
            await asyncio.gather(*self.waiting, return_exceptions=True)
            self.waiting = [task for task in self.waiting if not task.done()]
        while self.drawn:
            leases, draw = self.drawn.pop()
            self.settle(leases, draw, draw.tokens)
        self.check()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(limit=st.integers(0, 2000), history=st.lists(steps, max_size=60))
async def test_nothing_is_overspent_and_everything_comes_back(new_leasing, limit, history):
    async with AsyncExitStack() as stack:
        leasing = await stack.enter_async_context(new_leasing())
        leasing.metering.limit = limit
        run = Run(leasing, [await leasing.process(TIMING) for _ in range(PROCESSES)])
        for step in history:
            await run.step(*step)
        async with asyncio.timeout(10):
            await run.end()
            # A lease that could not be released while metering was down is left to expire; the
            # fake keeps those, so only what nobody holds any more is known to be such.
            while any(process._accounts for process in run.processes):
                await asyncio.sleep(0.01)
        metering = leasing.metering
        assert metering.spent + metering.leased <= limit
        if not any(step[0] == "metering down or up" for step in history):
            assert metering.leases == {}
            assert metering.spent == run.used

from ias_runtime.migrations import run

run()

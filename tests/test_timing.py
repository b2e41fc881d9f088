import time

from fxgrow.timing import Stopwatch


def test_wall_time_passes_while_the_process_sleeps() -> None:
    stopwatch = Stopwatch.start()
    time.sleep(0.02)
    first = stopwatch.seconds
    assert 0.02 <= first <= stopwatch.seconds
    assert 0 <= stopwatch.cpu_seconds <= first + 0.02


def test_cpu_time_passes_while_it_works() -> None:
    stopwatch = Stopwatch()
    while stopwatch.cpu_seconds == 0:
        sum(range(1000))
    assert stopwatch.cpu_seconds > 0


def test_it_counts_from_the_readings_that_it_is_given() -> None:
    stopwatch = Stopwatch(wall=time.perf_counter() - 10, cpu=time.process_time() - 5)
    assert 10 <= stopwatch.seconds < 11 and 5 <= stopwatch.cpu_seconds < 6

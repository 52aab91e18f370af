"""The limit of BLAS threads while several threads of Python compute."""

from threading import Barrier, Thread

import numpy as np
from threadpoolctl import threadpool_info

from genebench.evaluation.statistics.blas_threads import one_blas_thread


def n_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_the_limit_ends_with_the_last_of_the_blocks_that_overlap():
    before = n_threads()
    first_is_over, second_is_on = Barrier(2, timeout=120), Barrier(2, timeout=120)
    found = []

    def overlap():
        with one_blas_thread():
            second_is_on.wait()
            first_is_over.wait()
            found.append(n_threads())

    other = Thread(target=overlap)
    with one_blas_thread():
        other.start()
        second_is_on.wait()
        assert set(n_threads()) == {1}
    first_is_over.wait()
    other.join()
    assert set(found[0]) == {1}
    assert n_threads() == before

from collections.abc import Iterator

import pytest

import sweep  # noqa: F401  It sets what counts when Ray is imported, which the tests below do.


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray of this process, of one CPU."""
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()

"""Two hosts, as far as the network goes, train as one process does."""

import subprocess

import pytest
import two_hosts

pytestmark = pytest.mark.distributed


@pytest.fixture(autouse=True)
def _namespaces_may_be_made():
    try:
        with two_hosts.two_hosts():
            pass
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces may not be made here")


def test_two_hosts_give_the_numbers_of_one_process(tiny_model, tiny_data, tmp_path):
    flags = ["--data-dir", str(tiny_data)]
    difference, printed = two_hosts.compare(tmp_path, str(tiny_model), flags)
    assert difference < two_hosts.TOLERANCE
    assert printed.count("accelerate launch, 2 processes") == 1


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines()}


def test_the_hosts_are_taken_down_when_a_run_is_stopped():
    def stopped_run():
        with two_hosts.two_hosts() as hosts:
            assert set(hosts) <= namespaces()
            raise KeyboardInterrupt

    before = namespaces()
    with pytest.raises(KeyboardInterrupt):
        stopped_run()
    assert namespaces() == before

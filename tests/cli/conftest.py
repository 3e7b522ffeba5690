"""What the tests of bad input share."""

import pytest


@pytest.fixture
def refused(run_command, tmp_path, tmp_path_factory):
    """Run a command that must be refused, changing nothing; the lines it says."""

    def content():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    def refused(*words, torch_is_imported=False, expect=2):
        before = content()
        finished = run_command(
            *("-X", "importtime", "-m", "plainloop", *words),
            expect=expect,
            HF_HOME=str(tmp_path_factory.mktemp("empty-cache")),
            HF_HUB_OFFLINE="1",
        )
        assert content() == before
        lines = finished.stderr.splitlines()
        imports = {line for line in lines if line.startswith("import time:")}
        imported = {line.rpartition("|")[2].strip() for line in imports}
        assert ("torch" in imported) is torch_is_imported
        said = [line for line in lines if line not in imports]
        assert all(line.startswith("error: ") for line in said), said
        return said

    return refused

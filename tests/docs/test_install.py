"""The wheel that README and Makefile name, and no message that takes plainloop from an index."""

from conftest import ROOT


def test_make_dist_writes_the_wheel_that_the_readme_names():
    """The name has the version in it."""
    from plainloop import __version__

    wheel = f"dist/plainloop-{__version__}-py3-none-any.whl"
    for name in ("README.md", "Makefile"):
        assert wheel in (ROOT / name).read_text(encoding="utf-8")


def test_no_page_or_message_takes_plainloop_from_an_index():
    files = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "train.py")),
    ]
    said = [
        f"{file.name}: {line}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if "pip install plainloop" in line
        or ("pip install 'plainloop" in line and "git+" not in line)
    ]
    assert said == []

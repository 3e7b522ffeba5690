"""What the pages quote stands where they say, and what they print is what is printed."""

import difflib
import importlib.util
import itertools
import re
from pathlib import Path

import pytest
from conftest import ROOT

QUOTED = re.compile(r"`([\w./]+\.py):(\d+)` `([^`]+)`")
LIBRARIES = {
    "trainer.py": "transformers/trainer.py",
    "trainer_callback.py": "transformers/trainer_callback.py",
    "training_args.py": "transformers/training_args.py",
    "accelerate/data_loader.py": "accelerate/data_loader.py",
}


def source(path: str) -> list[str]:
    if path in LIBRARIES:
        package, _, rest = LIBRARIES[path].partition("/")
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        file = Path(spec.origin).parent / rest
    else:
        file = ROOT / path
    return file.read_text(encoding="utf-8").splitlines()


def test_every_quoted_line_stands_where_the_page_says():
    page = (ROOT / "docs" / "trainer.md").read_text(encoding="utf-8")
    quoted = QUOTED.findall(page)
    assert len(quoted) > 40
    wrong = [
        (path, number, code)
        for path, number, code in quoted
        if code not in source(path)[int(number) - 1]
    ]
    assert wrong == []


def test_the_difference_to_accelerate_is_the_one_of_the_two_scripts():
    page = (ROOT / "docs" / "from-plain-to-accelerate.md").read_text(encoding="utf-8")
    plain, accelerated = (
        (ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()
        for name in ("plain_pytorch.py", "plain_accelerate.py")
    )
    difference = "\n".join(difflib.unified_diff(plain, accelerated, n=1, lineterm=""))
    body = difference.partition("+++ \n")[2]
    assert f"```diff\n{body}\n```" in page


def tree_of(page: str) -> set[str]:
    """The paths of the annotated tree: two spaces of indentation a level, two between names."""
    block = re.search(r"<!-- tree -->\n```text\n(.*?)```", page, flags=re.DOTALL)
    assert block is not None
    paths: set[str] = set()
    parents: list[str] = []
    for line in block[1].splitlines():
        names = re.match(r" *(\S+(?:  \S+)?)", line)[1].split()
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], names[0]]
        paths |= {"".join([*parents[:depth], name]) for name in names}
    return paths


def test_the_tree_of_the_house_is_the_disks():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = tree_of(page)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    package = ROOT / "src" / "plainloop"
    folders = {
        f"{path.relative_to(ROOT)}/"
        for path in package.rglob("*")
        if path.is_dir() and path.name != "__pycache__"
    }
    assert folders <= paths


def test_the_tree_has_the_folders_in_the_order_of_their_imports():
    from test_architecture import FOLDERS

    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.findall(r"^  (\w+)(?:/|\.py) ", page, flags=re.MULTILINE)
    assert tuple(shown) == FOLDERS


def test_each_step_of_a_training_is_where_the_map_says():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("<!-- flow -->")[2]
    places = re.findall(r"`([a-z_/]+\.py)`((?: `\w+`,?)+)", page)
    assert len(places) > 15
    for path, names in places:
        text = (ROOT / "src" / "plainloop" / path).read_text(encoding="utf-8")
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^(?:def |class )?{name}\b", text, flags=re.MULTILINE), (path, name)


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "CONTRIBUTING.md"),
        *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
    ],
)
def test_links_to_files_lead_somewhere(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_fits_on_two_screens_but_for_the_loop():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    above, _, below = readme.partition("<!-- loop -->")
    assert len((above + below.partition("\n```\n")[2]).splitlines()) <= 110


def test_the_readme_shows_the_loop_as_it_is():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(
        r"<!-- loop -->\n<!-- run by: [^\n]*\n```python\n(.*?)```", readme, flags=re.DOTALL
    )
    assert block is not None
    shown = [line.strip() for line in block[1].splitlines()]
    loop = [
        line.strip()
        for line in (ROOT / "src/plainloop/training/loop.py")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    start = loop.index(shown[0])
    assert loop[start : start + len(shown)] == shown


def test_every_dependency_has_its_line_and_its_pin():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    names = [re.split(r"[><=\[]", line)[0] for line in wanted]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    pins = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", page)] == []
    assert [name for name in names if name.lower() not in pins] == []

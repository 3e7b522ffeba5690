"""Import lines of a script: only the names that it uses, in isort's order."""

import ast
from collections import defaultdict

MODULES = {
    "json": "json",
    "math": "math",
    "re": "re",
    "np": "numpy",
    "pa": "pyarrow",
    "pq": "pyarrow.parquet",
    "torch": "torch",
}
"""Name in the script -> module that is imported under it."""
MEMBERS = {
    "nullcontext": "contextlib",
    "files": "importlib.resources",
    "islice": "itertools",
    "Path": "pathlib",
    "Accelerator": "accelerate",
    "DataLoaderConfiguration": "accelerate.utils",
    "set_seed": "accelerate.utils",
    "Dataset": "datasets",
    "DatasetDict": "datasets",
    "concatenate_datasets": "datasets",
    "load_dataset": "datasets",
    "csv": "pyarrow",
    "nn": "torch",
    "binary_cross_entropy_with_logits": "torch.nn.functional",
    "cross_entropy": "torch.nn.functional",
    "DataLoader": "torch.utils.data",
    "tqdm": "tqdm.auto",
    "AutoModelForSequenceClassification": "transformers",
    "AutoTokenizer": "transformers",
    "DataCollatorWithPadding": "transformers",
    "get_scheduler": "transformers",
}
"""Name in the script -> module that it is imported from."""
STANDARD = ("json", "math", "re", "contextlib", "importlib.resources", "itertools", "pathlib")
LINE_LENGTH = 100


def names_in(code: str) -> set[str]:
    """Collect the variable names in a piece of code, read or assigned."""
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def imports_for(code: str) -> str:
    """Return the import lines that this code needs, the standard library first."""
    used = names_in(code)
    groups = []
    for is_standard in (True, False):
        modules = [
            f"import {module}" + (f" as {name}" if name != module else "")
            for name, module in sorted(MODULES.items(), key=lambda item: item[1])
            if name in used and (module in STANDARD) is is_standard
        ]
        members = defaultdict(list)
        for name, module in MEMBERS.items():
            if name in used and (module in STANDARD) is is_standard:
                members[module].append(name)
        groups.append([*modules, *(_from(module, members[module]) for module in sorted(members))])
    return "\n\n".join("\n".join(lines) for lines in groups)


def _from(module: str, names: list[str]) -> str:
    names = sorted(names, key=lambda name: (name.islower(), name))  # classes before functions
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= LINE_LENGTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"

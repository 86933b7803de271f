"""What can be measured: `python -m benchmarks` lists the commands."""

import ast
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


def measurable() -> dict[str, str]:
    """Modules that are commands, by name, each with the first line of its docstring."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        tree = ast.parse(path.read_bytes())
        is_command = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if is_command and not path.name.startswith("_"):
            found[path.stem] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def main() -> None:
    """Print them."""
    for name, about in measurable().items():
        print(f"python -m benchmarks.{name:20} {about.partition(': `python')[0]}")


if __name__ == "__main__":
    main()

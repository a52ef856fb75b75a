"""The portable part as a lint: `python -m cai_assets.engines.lint` names what is outside of it.

It asks for what engines need (`portable`), whichever is chosen, and for what keeps models so: clocks, zones
and texts are met once.
"""

import sys
from collections.abc import Iterable

from sqlglot import exp

from cai_assets.engines.choice import not_portable
from cai_assets.engines.models import DUCKDB_ALONE, Model, load_models
from cai_assets.engines.portable.vocabulary import CLOCK_AND_TEXT, shown


def complaints(models: Iterable[Model]) -> list[str]:
    """What is outside the portable part: a line for each model and construct, with the way to write it."""
    models = list(models)
    found = [f"{error.file}: {refusal}" for error in not_portable(models) for refusal in error.refusals]
    for model in models:
        if model.path.parent.name != "staging" and model.key not in DUCKDB_ALONE:
            found += [f"{model.file}: {text}" for text in _misplaced(model.tree)]
    return found


def _misplaced(tree: exp.Expr) -> list[str]:
    """Clock, zone and text functions in a select that does not read the lake itself."""
    found = []
    for node in tree.find_all(*CLOCK_AND_TEXT):
        select = node.find_ancestor(exp.Select)
        froms = [] if select is None else [select.args.get("from_"), *(select.args.get("joins") or [])]
        read = [one.this for one in froms if one is not None]
        if not any(isinstance(one, exp.Table) and one.db == "lake" for one in read):
            mend = "compute it in staging, or in the CTE that reads lake.*"
            found.append(f"{shown(node)}: {mend}; engines differ in clocks, zones and texts")
    return list(dict.fromkeys(found))


def main() -> int:
    """Print the complaints about the package's own models; 1 where there are any."""
    found = complaints(load_models().values())
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        exceptions = ", ".join(".".join(path) for path in DUCKDB_ALONE) or "none"
        print(f"All models are in the portable part of SQL (exceptions: {exceptions}).")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

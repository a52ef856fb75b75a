"""Names that a shell completes, and that messages suggest.

Nothing of Dagster is imported here: somebody waits with a finger on Tab.
"""

import difflib
from collections.abc import Callable, Collection, Iterable

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# Layers whose tables are assets; documents, enrichment and reports have no tables in the lake.
LAYERS = ("raw", "documents", "enrichment", "lake", "facts", "marts", "reports")


def completer(names: Callable[[], Iterable[str]]) -> Completer:
    """A click callback that offers those of some names which begin as the word does."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete)]

    return complete


def meant(name: str, known: Collection[str]) -> str:
    """What may have been meant by a name that there is not; all there are where nothing is like it."""
    short = {one.rpartition("/")[2]: one for one in reversed(list(known))}
    found = [one for one in known if name and name in one]
    found += difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    found += [
        short[one] for one in difflib.get_close_matches(name.rpartition("/")[2], short, n=3, cutoff=0.7)
    ]
    near = list(dict.fromkeys(found))[:5]
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"


def tables() -> list[str]:
    """Tables of the lake, as layer/name."""
    from cai_assets.schemas.tables import TABLES

    return ["/".join(path) for path in TABLES]


def table_path(name: str) -> tuple[str, str]:
    """The key of the table that `layer/name` or `layer.name` names.

    Raises:
        click.UsageError: no table is declared under it; the message names those that are alike.
    """
    from cai_assets.schemas.tables import TABLES

    path = tuple(name.replace(".", "/").split("/"))
    for key in TABLES:
        if key == path:
            return key
    raise click.UsageError(f"there is no table {name!r}; {meant('/'.join(path), tables())}")


def selections() -> list[str]:
    """Layers, and tables that are assets."""
    return [*LAYERS, *(name for name in tables() if name.partition("/")[0] in LAYERS)]


def exports() -> Iterable[str]:
    """Tables that can be exported."""
    from cai_assets.engines.exports import NAMES

    return NAMES


def metric_names() -> Iterable[str]:
    """Metrics."""
    from cai_assets.schemas.metrics import METRICS

    return METRICS


def category_names() -> Iterable[str]:
    """Categories of the taxonomy."""
    from cai_assets.domain.categories import load_taxonomy

    return load_taxonomy().names

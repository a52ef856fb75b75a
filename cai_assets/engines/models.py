"""The SQL models as objects: read once, parsed once, their inputs and parameters taken from the tree.

What a model is, where the files lie and what makes one wrong belong here; running them belongs to the
engines, and what the tables hold is declared in `schemas`.

A model is one SELECT in `dbt_like_sql/{staging,facts,marts}/NAME.sql`, in DuckDB's dialect. It names its
inputs as `layer.name` and its parameters as `$name`. `staging` and `facts` make the layer `facts`, `marts`
the layer `marts`. Queries in `tests` return the rows that are wrong, those in `reports` what pages show.
"""

import graphlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from cai_assets.failures import PermanentError
from cai_assets.schemas.tables import TABLES

TablePath = tuple[str, str]
"""`(layer, name)` of a table: the parts of its asset key."""

DIALECT = "duckdb"
LAYERS = {"staging": "facts", "facts": "facts", "marts": "marts"}
"""Layer that the models of a folder make."""

DUCKDB_ALONE: Mapping[TablePath, str] = {
    ("marts", "local_hour"): "it asks the time zone's history for every quarter of an hour",
    ("facts", "fct_term"): "it cuts texts into terms by classes of characters that other engines lack",
}
"""Models that no other engine than DuckDB runs, whatever ENGINE says, and why (docs/adr/0024)."""

TEST_PARAMETERS = frozenset(
    {"report_timezone", "session_gap_us", "target_1_us", "target_2_us", "target_3_us"}
)
"""What a test may ask for: the settings. Tests hold whenever they run, so they know no `as_of_us`."""

CLOCK_PARAMETERS = frozenset({"as_of_us", "as_of_business_us"})
"""What marts alone may ask for: the watermark of the source, and the same in business time."""

PARAMETERS = TEST_PARAMETERS | CLOCK_PARAMETERS
"""What a model may ask for: the settings, and (marts alone) the watermark."""


class ModelError(PermanentError):
    """A file of `dbt_like_sql` is not what it must be; the message names the file and the mend."""


@dataclass(frozen=True)
class Model:
    """One SQL model.

    Attributes:
        layer: layer of the table it makes.
        name: name of that table; the file's stem.
        sql: the file's text.
        tree: the same, parsed; not to be changed, copy it first.
        inputs: tables it reads, sorted.
        parameters: names of the parameters it uses, without `$`, sorted.
        description: the comment at the head of the file.
        path: the file.
        version: hash of the statement, unmoved by comments and layout.
    """

    layer: str
    name: str
    sql: str = field(repr=False)
    tree: exp.Query = field(repr=False, compare=False)
    inputs: tuple[TablePath, ...]
    parameters: tuple[str, ...]
    description: str = field(repr=False)
    path: Path = field(repr=False)
    version: str = field(repr=False)

    @property
    def key(self) -> TablePath:
        """`(layer, name)`."""
        return (self.layer, self.name)

    @property
    def file(self) -> str:
        """The file as people name it: folder and name."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Query:
    """A query over the tables that makes no table itself.

    Attributes:
        name: the file's stem.
        sql: the file's text.
        inputs: tables it reads, sorted.
        parameters: names of the parameters it uses, sorted.
        description: the comment at the head of the file.
        path: the file.
    """

    name: str
    sql: str = field(repr=False)
    inputs: tuple[TablePath, ...]
    parameters: tuple[str, ...]
    description: str = field(repr=False)
    path: Path = field(repr=False)


@dataclass(frozen=True)
class SqlTest(Query):
    """A query that returns the rows that are wrong; its description says what a returned row means.

    Attributes:
        asset: the table it checks: of its inputs the one that is made last.
    """

    asset: TablePath


def sql_folder() -> Path:
    """The folder `dbt_like_sql`: inside the package where it was installed, beside it in a checkout.

    Raises:
        ModelError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package / "dbt_like_sql", package.parent / "dbt_like_sql")
    for place in places:
        if (place / "facts").is_dir():
            return place
    looked = " and ".join(str(place) for place in places)
    raise ModelError(f"no SQL models: looked for {looked}; the installation is incomplete, install it again")


@cache
def load_models(folder: Path | None = None) -> Mapping[TablePath, Model]:
    """Every model by its table, inputs before the models that read them.

    Args:
        folder: default the package's own `sql_folder()`.

    Raises:
        ModelError: naming the file that is no single SELECT, reads an unknown table, uses an unknown
            parameter, makes an undeclared table, or stands in a cycle.
    """
    base = folder or sql_folder()
    models: dict[TablePath, Model] = {}
    for subfolder, layer in LAYERS.items():
        for path in sorted((base / subfolder).glob("*.sql")):
            model = _read_model(path, layer)
            if model.key in models:
                raise ModelError(f"{model.file} and {models[model.key].file} both make {layer}.{model.name}")
            models[model.key] = model
    order = _in_order(models)
    for model in models.values():
        for layer, name in model.inputs:
            if (layer, name) not in models and layer in LAYERS.values():
                raise ModelError(f"{model.file} reads {layer}.{name}, which no model makes")
    return {key: models[key] for key in order}


@cache
def load_queries(subfolder: str, folder: Path | None = None) -> tuple[Query, ...]:
    """Every query of a subfolder, as `reports`, by name.

    Args:
        subfolder: of the folder.
        folder: default the package's own `sql_folder()`.

    Raises:
        ModelError: naming the file that is no single SELECT, reads an unknown table or none, or uses an
            unknown parameter.
    """
    known = TEST_PARAMETERS if subfolder == "tests" else PARAMETERS
    return tuple(
        _read_query(path, known) for path in sorted(((folder or sql_folder()) / subfolder).glob("*.sql"))
    )


@cache
def load_tests(folder: Path | None = None) -> tuple[SqlTest, ...]:
    """Every query of `tests`, by name.

    Args:
        folder: default the package's own `sql_folder()`.

    Raises:
        ModelError: as for `load_models` and `load_queries`.
    """
    rank = {key: place for place, key in enumerate([*_sources(), *load_models(folder)])}
    return tuple(
        SqlTest(**vars(query), asset=max(query.inputs, key=lambda key: rank.get(key, -1)))
        for query in load_queries("tests", folder)
    )


@cache
def column_lineage(model: Model) -> Mapping[str, tuple[tuple[str, str, str], ...]]:
    """For each column of a model the columns `(layer, table, column)` it is made of, sorted.

    It follows values only: a column that merely filters, joins or orders is not among them, and neither is
    `count(*)`. A column whose origin cannot be told has none.
    """
    schema = _sqlglot_schema(model.inputs)
    try:
        tree = qualify(
            model.tree.copy(),
            dialect=DIALECT,
            schema=schema,
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
    except SqlglotError as error:
        raise ModelError(f"{model.file}: its columns cannot be followed: {error}") from error
    scope = build_scope(tree)
    known = set(model.inputs)
    found: dict[str, tuple[tuple[str, str, str], ...]] = {}
    for column in tree.named_selects:
        node = lineage(
            column, tree, schema=schema, dialect=DIALECT, scope=scope, trim_selects=False, copy=False
        )
        found[column] = tuple(sorted({leaf for leaf in _leaves(node) if leaf[:2] in known}))
    return found


def _leaves(node: Node) -> Iterator[tuple[str, str, str]]:
    for step in node.walk():
        if isinstance(step.source, exp.Table):
            yield (step.source.db, step.source.name, step.name.rpartition(".")[2].strip('"'))


def _sources() -> Iterator[TablePath]:
    return (path for path in TABLES if path[0] not in LAYERS.values())


def _sqlglot_schema(inputs: tuple[TablePath, ...]) -> dict[str, object]:
    # Only names matter to lineage; types are left open.
    layers: dict[str, dict[str, dict[str, str]]] = {}
    for layer, name in inputs:
        columns = TABLES[layer, name].columns
        layers.setdefault(layer, {})[name] = {column.name: "unknown" for column in columns}
    return dict(layers)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _read_model(path: Path, layer: str) -> Model:
    sql = path.read_text(encoding="utf-8")
    tree = _parse(sql, path)
    if (layer, path.stem) not in TABLES:
        raise ModelError(
            f"{_short(path)} makes {layer}.{path.stem}, which is not declared; declare it in "
            f"cai_assets/schemas/{layer}.py"
        )
    parameters = _parameters(tree, path, PARAMETERS)
    if layer == "facts" and (clocks := sorted(CLOCK_PARAMETERS & set(parameters))):
        raise ModelError(
            f"{_short(path)} uses ${clocks[0]}: facts know no clock, else a refreshed day would differ from "
            "a rebuild"
        )
    return Model(
        layer=layer,
        name=path.stem,
        sql=sql,
        tree=tree,
        inputs=_inputs(tree, path),
        parameters=parameters,
        description=_head_comment(sql, path),
        path=path,
        version=hashlib.blake2b(
            tree.sql(dialect=DIALECT, comments=False).encode(), digest_size=8
        ).hexdigest(),
    )


def _read_query(path: Path, known: frozenset[str]) -> Query:
    sql = path.read_text(encoding="utf-8")
    tree = _parse(sql, path)
    inputs = _inputs(tree, path)
    if not inputs:
        raise ModelError(f"{_short(path)} reads no table")
    return Query(
        name=path.stem,
        sql=sql,
        inputs=inputs,
        parameters=_parameters(tree, path, known),
        description=_head_comment(sql, path),
        path=path,
    )


def _parse(sql: str, path: Path) -> exp.Query:
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect=DIALECT) if statement]
    except SqlglotError as error:
        raise ModelError(f"{_short(path)} is no SQL: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        kinds = ", ".join(statement.key for statement in statements) or "nothing"
        raise ModelError(f"{_short(path)} must hold one SELECT, and holds {kinds}")
    return statements[0]


def _inputs(tree: exp.Query, path: Path) -> tuple[TablePath, ...]:
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    found: set[TablePath] = set()
    for table in tree.find_all(exp.Table):
        if not table.db and table.name in named:
            continue
        if not isinstance(table.this, exp.Identifier):
            raise ModelError(f"{_short(path)} reads {table.sql(dialect=DIALECT)}; only tables can be inputs")
        if (table.db, table.name) not in TABLES or table.catalog:
            raise ModelError(
                f"{_short(path)} reads {table.sql(dialect=DIALECT)}, which is neither declared "
                "(layer.name, as lake.messages) nor one of its own CTEs"
            )
        found.add((table.db, table.name))
    return tuple(sorted(found))


def _parameters(tree: exp.Query, path: Path, known: frozenset[str]) -> tuple[str, ...]:
    found = {node.name for node in tree.find_all(exp.Placeholder, exp.Parameter)}
    if unknown := sorted(found - known):
        names = ", ".join("$" + name for name in unknown)
        raise ModelError(
            f"{_short(path)} uses {names}; known are {', '.join('$' + n for n in sorted(known))}"
        )
    return tuple(sorted(found))


def _head_comment(sql: str, path: Path) -> str:
    lines = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    if not lines:
        raise ModelError(f"{_short(path)} begins without a comment that says what its rows are")
    return " ".join(lines)


def _in_order(models: Mapping[TablePath, Model]) -> list[TablePath]:
    graph = {key: [path for path in model.inputs if path in models] for key, model in models.items()}
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        files = " → ".join(models[key].file for key in error.args[1])
        raise ModelError(f"models read each other in a circle: {files}") from error

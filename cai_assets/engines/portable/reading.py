"""A model read into a plan, or refused: the one way into the portable part, for engines and for the lint."""

from cai_assets.engines.models import Model
from cai_assets.engines.portable.fitting import Refused, fitted
from cai_assets.engines.portable.kinds import schema_of
from cai_assets.engines.portable.plan import Col, Item, Node, Project
from cai_assets.engines.portable.selects import QueryReader, Tables
from cai_assets.engines.portable.vocabulary import NotPortable, Refusal, foreign
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES


def read_model(model: Model, table: Table, tables: Tables = TABLES) -> Node:
    """The model as a plan that every engine runs, with the columns of its table in their order.

    Args:
        model: the model.
        table: declaration of the table it makes.
        tables: declarations of its inputs.

    Raises:
        NotPortable: naming every construct outside the vocabulary, or else the first that is used in another
            way than engines agree on; also columns that do not fit the declaration.
    """
    refusals = list(foreign(model.tree))
    if refusals:
        raise NotPortable(model.file, refusals)
    try:
        node = QueryReader(tables).read(model.tree)
    except Refused as refused:
        raise NotPortable(model.file, [refused.refusal]) from None
    return _declared(model, table, node)


def _declared(model: Model, table: Table, node: Node) -> Node:
    """The plan's columns as the declaration has them."""
    wanted = schema_of(table)
    title = f"{table.layer}.{table.name}"
    refusals = [
        Refusal(name, f"{title} declares it: select it") for name in wanted if name not in node.schema
    ]
    refusals += [Refusal(name, f"{title} does not declare it") for name in node.schema if name not in wanted]
    items = []
    for name, kind in wanted.items():
        value = fitted(Col(name, node.schema[name]), kind) if name in node.schema else None
        if value is not None:
            items.append(Item(name, value))
        elif name in node.schema:
            refusals.append(Refusal(f"{name} is {node.schema[name]}", f"{title} declares {kind}: cast it"))
    if refusals:
        raise NotPortable(model.file, refusals)
    return Project(node, tuple(items))

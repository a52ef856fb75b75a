"""`cai categorise`: write down what a person says a conversation is about."""

import getpass
from pathlib import Path

import click

from cai_assets.commands.common import console, data_option, working_stack
from cai_assets.commands.completing import category_names, completer


@click.command(
    short_help="Say what a conversation is about.",
    epilog="""\b
Examples:
  cai categorise conversation-17 refund
  cai categorise conversation-17 billing --by anna

Exit code 1 when there is no such conversation or category; the message lists
the categories.
""",
)
@click.argument("conversation_id")
@click.argument("category", shell_complete=completer(category_names))
@click.option(
    "--by", default=getpass.getuser, metavar="NAME", help="Who decided.  [default: your login name]"
)
@data_option
def categorise(conversation_id: str, category: str, by: str, data: Path | None) -> None:
    """Write down what a person says a conversation is about; no run overwrites it.

    It stays when the conversation goes on, and when the taxonomy (the list of categories) gets another
    version that still has the category. The tables have it once its day is materialised again.
    """
    out = console()
    with working_stack("categorise", data, out) as (_, settings):
        from cai_assets.resources.enrichment import decide_by_person
        from cai_assets.resources.mongo import MongoStore

        with MongoStore.from_settings(settings) as mongo:
            day = decide_by_person(mongo, settings, conversation_id, category, by)
    out.print(f"{conversation_id} is about {category}, by {by}.")
    out.print(f"In the tables after: cai backfill --from {day} --to {day}")

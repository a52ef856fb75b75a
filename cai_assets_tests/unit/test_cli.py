"""The command line without its servers: help, exit codes, wrong usage, and errors that name the thing."""

import json
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from cai_assets.cli import COMMANDS, main
from cai_assets.commands.checkup import settings_set
from cai_assets.commands.common import check_days, show
from cai_assets.commands.demo import _range
from cai_assets.commands.findings import Finding, cleaned
from cai_assets.commands.reporting import QUERIES, within_days
from cai_assets.commands.up import check_port
from cai_assets.domain.hiding import HIDDEN, Secrets
from cai_assets.engines.models import load_queries
from cai_assets.failures import TransientError
from cai_assets.settings import Settings
from cai_assets.stack import StackError


@pytest.fixture
def port_in_use() -> int:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    yield server.getsockname()[1]
    server.close()


# -- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"cai {command}" in result.output
    assert "xit code" in result.output
    assert [line for line in result.output.splitlines() if len(line) > 80] == []


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    """Dagster alone takes seconds to import; who asks for help has not asked for that."""
    code = "import sys\nfrom cai_assets.cli import main\nmain(['--help'], standalone_mode=False)\n"
    code += (
        "print(sorted({'dagster', 'pandas', 'pyarrow', 'pydantic', 'pymongo', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in COMMANDS:
        assert f"  {command} " in done.stdout


# -- exit codes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "There is no command 'nonsense'; there are demo, up"),
        (["statsu"], "did you mean status?"),
        (["status", "--jsn"], "'--json'"),
        (["history", "fact/fct_wiat"], "did you mean facts/fct_wait"),
        (["compact", "volume"], "did you mean marts/volume?"),
        (["metrics", "contaiment_rate"], "did you mean containment_rate"),
        (["backfill", "--from", "2024-02-02", "--to", "2024-02-01"], "lies after --to"),
        (["backfill", "--from", "2019-02-02", "--to", "2024-02-01"], "2020-01-01 (PARTITION_START_DATE)"),
        (["demo", "--from", "2024-02-02", "--to", "2024-02-01"], "lies after --to"),
        (["report", "--from", "1999-01-01", "--to", "1999-01-02"], "--from 1999-01-01 lies before"),
        (["erase", "user-0042", "--json"], "--json does not ask: add --yes, or --dry-run"),
        (["erase", "--forget-marks", "--json"], "--json does not ask: add --yes"),
        (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
        (["backfill"], "Missing option '--from'"),
        (["backfill", "--from", "2024-13-01", "--to", "2024-12-31"], "'2024-13-01' is no day"),
        (["report", "--from", "2024-01-01"], "give both --from and --to"),
        (["report", "--from", "2024-01-02", "--to", "2024-01-01"], "lies after --to"),
        (["up", "--port", "0"], "0 is not in the range"),
        (["demo", "--data", "no/such/folder"], "does not exist"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not Path(".cai").exists()  # told before anything is started


@pytest.mark.parametrize("command", [["status"], ["report"]])
def test_before_the_first_run_there_is_nothing_to_show_and_a_way_on(command: list[str]) -> None:
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "nothing was materialised yet" in result.output
    assert "cai demo" in result.output
    assert not Path(".cai").exists()


def test_wrong_settings_are_told_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE", "0")
    monkeypatch.setenv("REPORT_TIMEZONE", "Mars/Olympus")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "BATCH_SIZE" in result.output
    assert "REPORT_TIMEZONE" in result.output


def test_an_error_of_the_platform_is_one_line_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TransientError("no MongoDB answers")

    monkeypatch.setattr("cai_assets.stack.choose_home", fail)
    result = CliRunner().invoke(main, ["status"])
    assert (result.exit_code, result.output) == (1, "Error: no MongoDB answers\n")


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cai_assets.stack.choose_home", interrupted)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 130


# -- completion


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cai sta", "plain,status"),
        ("cai metrics containment_r", "plain,containment_rate"),
        ("cai history facts/fct_wa", "plain,facts/fct_wait"),
        ("cai compact raw/messages lake/messa", "plain,lake/messages"),
        ("cai export --what vol", "plain,volume"),
        ("cai export --format x", "plain,xlsx"),
        ("cai backfill --select mar", "plain,marts"),
        ("cai categorise some-id refu", "plain,refund"),
    ],
)
def test_a_shell_completes_commands_and_the_names_they_take(words: str, expected: str) -> None:
    environment = {
        "_CAI_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    result = CliRunner().invoke(main, env=environment, prog_name="cai")
    assert expected in result.output.splitlines()


def test_layers_that_are_completed_are_those_of_the_assets() -> None:
    from cai_assets.commands import completing, records
    from cai_assets.commands.runs import select_assets
    from cai_assets.definitions import defs

    assert completing.LAYERS == records.LAYERS
    assert select_assets(defs, completing.selections()) == select_assets(defs, ())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_for_a_shell_are_printed(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_CAI_COMPLETE={shell}_complete" in result.output


# -- tables


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_value_is_cut_however_narrow_the_terminal(width: int) -> None:
    out = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    cells = {
        "conversations": "123,456,789",
        "rows of today": "1\u202f021",
        "committed at": "2026-11-26 16:34:25",
        "how long it took": "11 min 02 s",
        "what was done to it": "[yellow]files were merged[/yellow]",
    }
    for heading in cells:
        grid.add_column(heading, no_wrap=True)
    grid.add_row(*cells.values())
    show(grid, out)
    said = out.file.getvalue()
    assert "…" not in said
    for whole in ("123,456,789", "1\u202f021", "2026-11-26 16:34:25"):
        assert whole in said
    for word in ["conversations", "committed", "files", "were", "merged", "took"]:
        assert word in said
    assert out.width == width
    if width >= 80:
        assert max(map(len, said.splitlines())) <= width


# -- ports


def test_a_port_in_use_is_named_with_another_to_choose(port_in_use: int) -> None:
    with pytest.raises(StackError, match=rf"port {port_in_use} on 127\.0\.0\.1 is in use.*--port \d+"):
        check_port(port_in_use)


def test_a_port_in_use_is_told_before_anything_is_started(port_in_use: int) -> None:
    result = CliRunner().invoke(main, ["up", "--port", str(port_in_use)])
    assert result.exit_code == 1
    assert f"port {port_in_use} on 127.0.0.1 is in use" in result.output
    assert not Path(".cai").exists()


def test_a_port_that_was_just_given_back_can_be_used(port_in_use: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    check_port(free)


# -- days


def test_a_range_of_days_is_checked_against_the_days_there_are() -> None:
    assert check_days("2024-02-28", "2024-03-01") == ["2024-02-28", "2024-02-29", "2024-03-01"]
    with pytest.raises(click.UsageError, match="lies after"):
        check_days("2024-03-01", "2024-02-28")
    for first, last in (("1999-01-01", "2024-01-01"), ("2024-01-01", "2999-01-01")):
        with pytest.raises(click.UsageError, match=r"2020-01-01 \(PARTITION_START_DATE\)"):
            check_days(first, last)


REPORTED = [query for query in load_queries("reports") if query.name in QUERIES]


@pytest.mark.parametrize("query", REPORTED, ids=lambda query: query.name)
def test_a_report_of_some_days_cuts_down_every_mart_by_day(query: object) -> None:
    sql = within_days(query.sql)  # type: ignore[attr-defined]
    cut = {path for path in query.inputs if path[0] == "marts" and path[1] != "user"}  # type: ignore[attr-defined]
    assert sql.count("$first_day") == len(cut)


YEAR = ["2024-01-01", "2024-06-01", "2024-12-31"]


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [
        (["2024-03-01", "2024-03-05"], (None, None, None), ("2024-03-01", "2024-03-05", None)),
        (["2024-03-01", "2024-03-31"], (None, None, None), ("2024-03-01", "2024-03-31", None)),
        (YEAR, (None, None, None), ("2024-01-01", "2024-01-31", "2024-12-31")),
        (YEAR, (None, "2024-12-31", None), ("2024-01-01", "2024-12-31", None)),
        (YEAR, ("2024-12-01", None, None), ("2024-12-01", "2024-12-31", None)),
        (YEAR, (None, None, 3), ("2024-01-01", "2024-01-03", None)),
        (YEAR, ("2024-02-01", "2024-02-09", 3), ("2024-02-01", "2024-02-03", None)),
        (YEAR, ("2024-02-09", "2024-02-01", None), ("2024-02-09", "2024-02-01", None)),
    ],
)
def test_the_demo_makes_the_days_there_are_a_month_at_most(
    monkeypatch: pytest.MonkeyPatch,
    found: list[str],
    asked: tuple[str | None, str | None, int | None],
    expected: tuple[str, str, str | None],
) -> None:
    monkeypatch.setattr("cai_assets.commands.runs.days_with_conversations", lambda _: found)
    assert _range(Settings(), *asked) == expected


# -- doctor


def test_no_secret_is_printed_whoever_wrote_it_into_a_message() -> None:
    settings = Settings(
        mongodb_uri="mongodb://me:pass-word@db:27017",  # type: ignore[arg-type]
        nocodb_api_token="token-1",  # type: ignore[arg-type]
    )
    text = "refused mongodb://me:pass-word@db:27017, password pass-word, header token-1"
    shown = cleaned(Finding("MongoDB", "fail", text, "use another than token-1"), Secrets(settings))
    assert "pass-word" not in shown.text
    assert "token-1" not in shown.text + shown.mend
    assert HIDDEN in shown.text
    assert all("pass-word" not in finding.text for finding in settings_set(settings))


def test_a_misspelt_variable_is_found_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOCODB_API_TOKN", "x")
    Path(".env").write_text("MONGODB_URL=mongodb://x\n", encoding="utf-8")
    found = {
        finding.text.split()[0]: finding for finding in settings_set(Settings()) if finding.status == "warn"
    }
    assert found["NOCODB_API_TOKN"].mend == "Did you mean NOCODB_API_TOKEN?"
    assert found["MONGODB_URL"].mend == "Did you mean MONGODB_URI?"


def test_settings_that_do_nothing_alone_are_told() -> None:
    settings = Settings(nocodb_api_token="t", dify_category_api_key="k")  # type: ignore[arg-type]
    texts = [finding.text for finding in settings_set(settings) if finding.status == "warn"]
    assert any("NOCODB_API_TOKEN set without NOCODB_BASE_URL" in text for text in texts)
    assert any("DIFY_CATEGORY_API_KEY set without DIFY_BASE_URL" in text for text in texts)


def test_findings_are_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cai_assets.commands.doctor._look", lambda *_, **__: iter([Finding("Lake", "fail", "full", "mend")])
    )
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output) == [
        {"subject": "Lake", "status": "fail", "text": "full", "mend": "mend"}
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--what", "nothing"], "there are volume, clocks"),
        (["--what", "volum"], "did you mean volume?"),
        (["--from", "2024-02-01", "--to", "2024-01-01"], "lies after"),
        (["--format", "pdf"], "'csv', 'xlsx', 'parquet'"),
    ],
)
def test_an_export_that_cannot_be_is_refused_by_name(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == 2
    assert said in result.output

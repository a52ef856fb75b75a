"""What `deploy/` names is there: variables, commands, volumes, Dagster's own settings; and no secret is."""

import configparser
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config
from dagster._core.execution import asset_backfill
from dagster._core.instance.config import dagster_instance_config, dagster_instance_config_schema
from dagster_postgres.storage import DagsterPostgresStorage
from sqlalchemy.engine import make_url

from cai_assets.automation import SCHEDULES, SENSORS
from cai_assets.commands.up import PATIENT
from cai_assets.home import HomeSettings
from cai_assets.records import BATCH_VARIABLE
from cai_assets.settings import Settings
from cai_assets_tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
TEMPLATE = REPOSITORY / "cai_assets" / "templates" / "dagster.yaml"
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)")
# Compose's own, and those of the other images; all else has to be a setting of the platform.
OTHERS = {
    *("POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB", "MONGODB_PASSWORD", "CAI_VERSION"),
    *("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "DAGSTER_EVENT_BATCH_SIZE"),
    *("MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD"),
    *(f"DAGSTER_POSTGRES_{name}" for name in ("HOST", "DB", "USER", "PASSWORD")),
}
KNOWN = {name.upper() for kind in (Settings, HomeSettings) for name in kind.model_fields} | OTHERS


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text(encoding="utf-8")))


def written(path: Path) -> dict[str, str]:
    """Variables of an .env file, also those behind a comment sign."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {m[1]: m[2] for line in lines if (m := re.match(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", line))}


def test_every_variable_that_is_named_is_read_by_something(
    compose: dict[str, Any], values: dict[str, Any]
) -> None:
    named = set(VARIABLE.findall((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    for service in compose["services"].values():
        named |= set(service.get("environment", {}))
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    named |= set(deployment["env"]) | set(written(DEPLOY / "example.env"))
    assert named - KNOWN == set()


def test_every_variable_that_compose_asks_for_stands_in_the_example(compose: dict[str, Any]) -> None:
    asked = set(VARIABLE.findall((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    assert asked - set(written(DEPLOY / "example.env")) == {"CAI_VERSION"}


def test_a_backfill_waits_for_the_code_while_it_is_replaced(
    compose: dict[str, Any], values: dict[str, Any]
) -> None:
    name = next(iter(PATIENT))
    assert compose["services"]["daemon"]["environment"][name] == PATIENT[name]
    assert values["dagsterDaemon"]["env"][name] == PATIENT[name]
    assert name in inspect.getsource(asset_backfill), "this version of Dagster knows it by another name"


def test_settings_that_are_set_there_are_accepted(compose: dict[str, Any], values: dict[str, Any]) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    for group in (
        written(DEPLOY / "example.env"),
        compose["services"]["code"]["environment"],
        deployment["env"] | {"S3_BUCKET": "from the secret"},
    ):
        given = {name.lower(): value for name, value in group.items() if value and name not in OTHERS}
        Settings(_env_file=None, **given)


def test_compose_keeps_to_the_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_secret_stands_in_a_file(compose: dict[str, Any]) -> None:
    secret = re.compile(r"password|secret|token|_key$|key_id", re.IGNORECASE)
    for name, value in written(DEPLOY / "example.env").items():
        if secret.search(name):
            assert value == "", name
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert str(value).startswith("${"), name


def test_images_have_a_version_and_no_digest_and_ours_is_this_version(
    compose: dict[str, Any], values: dict[str, Any]
) -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert deployment["image"]["tag"] == version
    for name, service in compose["services"].items():
        image = service["image"]
        if image.startswith("cai-assets"):
            assert image == f"cai-assets:${{CAI_VERSION:-{version}}}", name
        else:
            assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", image), name
    for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("FROM "):
            assert re.match(r"FROM python:3\.12\.\d+-slim-\w+", line), line


def commands(compose: Mapping[str, Any]) -> Iterator[list[str]]:
    docker = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    yield from (yaml.safe_load(found) for found in re.findall(r"CMD (\[.*\])", docker))
    for service in compose["services"].values():
        if service["image"].startswith("cai-assets"):
            yield service.get("command", [])
            yield service.get("healthcheck", {}).get("test", ["CMD"])[1:]


def test_commands_of_the_image_are_in_its_packages(compose: dict[str, Any]) -> None:
    installed = {
        entry.name
        for package in ("dagster", "dagster-webserver", "cai_assets")
        for entry in distribution(package).entry_points
        if entry.group == "console_scripts"
    }
    named = {command[0] for command in commands(compose) if command}
    assert named == {"dagster", "dagster-daemon", "dagster-webserver", "python"}
    assert named - {"python"} <= installed
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"postgres", "kubernetes"} <= set(extras["optional-dependencies"])


def test_options_of_the_commands_exist(compose: dict[str, Any]) -> None:
    from click.testing import CliRunner
    from dagster._cli import create_dagster_cli
    from dagster._daemon.cli import create_dagster_daemon_cli
    from dagster_webserver.cli import create_dagster_webserver_cli

    programs = {
        "dagster": create_dagster_cli(),
        "dagster-daemon": create_dagster_daemon_cli(),
        "dagster-webserver": create_dagster_webserver_cli(),
    }
    for program, *arguments in filter(None, commands(compose)):
        if program not in programs:
            continue
        words = []
        for word in arguments:
            if word.startswith("-"):
                break
            words.append(word)
        shown = CliRunner().invoke(programs[program], [*words, "--help"])
        assert shown.exit_code == 0, (program, words, shown.output)
        for option in (word for word in arguments if word.startswith("--")):
            assert option in shown.output, (program, words, option)


def test_services_are_watched_and_what_they_name_is_declared(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        if name != "bucket":  # ends by itself
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"], (name, volume)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: the UI has no login"
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_copies_what_is_there_and_installs_what_is_pinned() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (REPOSITORY / source).exists(), source
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)[0].split()[:-1]:
        assert f"!{source}" in ignored, source
    pinned = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    for name in ("dagster", "dagster-postgres", "dagster-k8s", "dagster-aws", "psycopg2-binary"):
        assert re.search(rf"^{name}==", pinned, re.MULTILINE), name
    assert "secantus" not in pinned.lower(), "the embedded server is no part of production"


@pytest.mark.parametrize("path", [TEMPLATE, DEPLOY / "dagster.yaml"], ids=["development", "production"])
def test_dagster_accepts_its_settings(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "DB", "USER", "PASSWORD"):
        monkeypatch.setenv(f"DAGSTER_POSTGRES_{name}", "x")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv(BATCH_VARIABLE, "0")  # put back after the test, as the event log sets it
    (tmp_path / "dagster.yaml").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    config, _ = dagster_instance_config(str(tmp_path))
    assert set(config) <= set(dagster_instance_config_schema())
    reference = dg._core.instance.ref.InstanceRef.from_dir(str(tmp_path))
    assert reference.settings["run_retries"]["max_retries"] == 1
    if path == TEMPLATE:
        with dg.DagsterInstance.from_ref(reference) as instance:
            assert instance.run_retries_enabled
            assert instance.freshness_enabled
            assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
    else:
        storage = config["storage"]["postgres"]
        assert set(storage["postgres_db"]) == {
            *("scheme", "hostname", "port", "db_name", "username", "password")
        }
        assert set(storage) <= set(DagsterPostgresStorage.config_type())
        # The driver that dagster-postgres brings is the one that SQLAlchemy is told to use.
        dialect = make_url(f"{storage['postgres_db']['scheme']}://").get_dialect()
        assert dialect.import_dbapi().__name__ == "psycopg2"
        assert reference.compute_logs_data.rehydrate(as_type=object) is not None


def test_every_number_of_dagsters_settings_is_explained() -> None:
    """A comment stands beside the number, or above it in its group."""
    for path in (TEMPLATE, DEPLOY / "dagster.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if re.search(r": \d+(\s|$)", line) and "#" not in line and "port:" not in line:
                above = [one for one in lines[max(0, number - 8) : number] if one.lstrip().startswith("#")]
                assert above, f"{path.name}:{number + 1} {line.strip()}"


FREE = None
"""The chart takes anything here, or what Kubernetes takes."""

# What the chart knows of the parts that are set, by its schema: helm/dagster/schema of dagster-io/dagster, in
# a form that has `dagsterDaemon.backfills` and was not read at the tag of the pinned version itself. The
# schema leaves runMonitoring open; what Dagster knows of it is asked below. `helm lint`, as
# docs/operations.md says, asks the chart.
CHART: dict[str, Any] = {
    "global": {"postgresqlSecretName": str, "dagsterHome": str, "serviceAccountName": str},
    "generatePostgresqlPasswordSecret": bool,
    "dagsterWebserver": {
        "replicaCount": int,
        "enableReadOnly": bool,
        "envSecrets": [{"name": str}],
        "resources": FREE,
    },
    "dagster-user-deployments": {
        "enabled": bool,
        "enableSubchart": bool,
        "deployments": [
            {
                "name": str,
                "image": {"repository": str, "tag": str, "pullPolicy": str},
                "dagsterApiGrpcArgs": [str],
                "port": int,
                "includeConfigInLaunchedRuns": {"enabled": bool},
                "envSecrets": [{"name": str}],
                "env": FREE,
                "resources": FREE,
            }
        ],
    },
    "runLauncher": {
        "type": str,
        "config": {
            "k8sRunLauncher": {
                "imagePullPolicy": str,
                "loadInclusterConfig": bool,
                "failPodOnRunFailure": bool,
                "runK8sConfig": {"containerConfig": FREE, "podSpecConfig": FREE, "jobSpecConfig": FREE},
            }
        },
    },
    "computeLogManager": {
        "type": str,
        "config": {"s3ComputeLogManager": {"bucket": str, "prefix": str, "endpointUrl": str, "region": str}},
    },
    "dagsterDaemon": {
        "enabled": bool,
        "env": FREE,
        "resources": FREE,
        "runCoordinator": {
            "enabled": bool,
            "type": str,
            "config": {
                "queuedRunCoordinator": {
                    "maxConcurrentRuns": int,
                    "tagConcurrencyLimits": [{"key": str, "value": FREE, "limit": int}],
                    "dequeueIntervalSeconds": int,
                }
            },
        },
        "runMonitoring": FREE,
        "runRetries": {"enabled": bool, "maxRetries": int, "retryOnAssetOrOpFailure": bool},
        "sensors": {"useThreads": bool, "numWorkers": int},
        "schedules": {"useThreads": bool, "numWorkers": int},
    },
    "postgresql": {
        "enabled": bool,
        "postgresqlScheme": str,
        "postgresqlHost": str,
        "postgresqlUsername": str,
        "postgresqlDatabase": str,
        "postgresqlParams": FREE,
        "service": {"port": int},
    },
    "retention": {
        "enabled": bool,
        **{
            name: {"purgeAfterDays": dict.fromkeys(("skipped", "success", "failure", "started"), int)}
            for name in ("sensor", "schedule", "autoMaterialize")
        },
    },
    "telemetry": {"enabled": bool},
    "additionalInstanceConfig": FREE,
}


def misfits(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """Where values have names that the chart does not know, or are of another type."""
    if known is FREE:
        return
    if isinstance(known, dict) and isinstance(given, dict):
        for name, value in given.items():
            if name in known:
                yield from misfits(value, known[name], f"{path}.{name}")
            else:
                yield f"{path}.{name} is unknown"
    elif isinstance(known, list) and isinstance(given, list):
        for place, value in enumerate(given):
            yield from misfits(value, known[0], f"{path}[{place}]")
    elif not (isinstance(known, type) and type(given) is known):
        yield f"{path} is {given!r}"


def test_values_of_the_chart_are_those_that_it_knows(values: dict[str, Any]) -> None:
    assert list(misfits(values, CHART)) == []
    assert list(
        misfits({"telemetry": {"enabeld": True}, "postgresql": {"service": {"port": "1"}}}, CHART)
    ) == [
        ".telemetry.enabeld is unknown",
        ".postgresql.service.port is '1'",
    ]
    # All variables are texts: Kubernetes refuses a pod with another.
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    for variables in (deployment["env"], values["dagsterDaemon"]["env"]):
        assert all(isinstance(value, str) for value in variables.values())
    dagster_version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert any(one.startswith("dagster>=1.13") for one in dagster_version["project"]["dependencies"])


def test_dagster_knows_what_the_chart_hands_over(values: dict[str, Any]) -> None:
    schema = dagster_instance_config_schema()
    extra = values["additionalInstanceConfig"]
    written_by_chart = {"run_monitoring", "run_retries", "retention", "telemetry", "sensors", "schedules"}
    assert set(extra) <= set(schema)
    assert not set(extra) & written_by_chart, "a key of dagster.yaml would stand there twice"
    handed_over = {
        "run_monitoring": values["dagsterDaemon"]["runMonitoring"],
        "run_retries": values["dagsterDaemon"]["runRetries"],
        "sensors": values["dagsterDaemon"]["sensors"],
        "schedules": values["dagsterDaemon"]["schedules"],
    }
    config = extra | {
        part: {re.sub(r"([A-Z])", r"_\1", name).lower(): value for name, value in given.items()}
        for part, given in handed_over.items()
    }
    checked = process_config({name: schema[name] for name in config}, config)
    assert checked.success, checked.errors
    wrong = config | {"run_monitoring": config["run_monitoring"] | {"no_such_name": 1}}
    assert not process_config({name: schema[name] for name in wrong}, wrong).success


def test_the_chart_is_of_the_version_that_is_pinned(values: dict[str, Any]) -> None:
    pinned = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    version = re.search(r"^dagster==(\S+)", pinned, re.MULTILINE)
    assert version is not None
    for path in (DEPLOY / "kubernetes" / "values.yaml", REPOSITORY / "docs" / "operations.md"):
        assert f"--version {version[1]} " in path.read_text(encoding="utf-8"), path


def test_the_webserver_can_read_the_logs_of_runs(values: dict[str, Any]) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert values["dagsterWebserver"]["envSecrets"] == deployment["envSecrets"]


def test_the_operations_page_names_every_sensor_and_schedule() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    for one in (*SENSORS, *SCHEDULES):
        assert f"`{one.name}`" in page, one.name


def test_the_templates_travel_with_the_package() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    assert "templates/*" in parser["options.package_data"]["cai_assets"]

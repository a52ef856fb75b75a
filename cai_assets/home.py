"""The home of an embedded stack: its folder, whose it is, its room, its key, and what it offers by itself.

No process is known here: what is started over a home, and who runs over it now, belongs to `stack.py`.
"""

import json
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cai_assets.failures import PermanentError
from cai_assets.settings import Settings

MIN_FREE_BYTES = (
    1024**3
)  # the sample needs 0.2 GiB; the database keeps logs of up to 128 MiB before it trims them


class StackError(PermanentError):
    """The stack cannot be started as asked; the message says what to change."""


class HomeSettings(BaseSettings):
    """The two variables that say where a stack lives; read like all others, needed before them."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    cai_home: Path = Field(Path(".cai"), description="Folder of the embedded stack's homes.")
    dagster_home: Path | None = Field(None, description="Dagster's instance; unset: inside the home.")


@dataclass(frozen=True)
class Home:
    """The folder of one stack.

    Attributes:
        path: absolute.
        data: folder of conversations the sandbox is seeded from; None for the sample, or where the
            conversations come from the user's own source.
    """

    path: Path
    data: Path | None = None

    @property
    def mongo(self) -> Path:
        """The database's files."""
        return self.path / "mongo"

    @property
    def lake(self) -> Path:
        """The Parquet lake, unless PARQUET_BASE_DIR or S3_ENABLED says otherwise."""
        return self.path / "lake"

    @property
    def dagster(self) -> Path:
        """Dagster's instance, unless DAGSTER_HOME says otherwise."""
        return self.path / "dagster"

    @property
    def logs(self) -> Path:
        """What the started servers wrote."""
        return self.path / "logs"

    @property
    def state_file(self) -> Path:
        """Which processes run over this home; only its owner may read it, as it holds passwords."""
        return self.path / "stack.json"

    @property
    def identity_file(self) -> Path:
        """What the home was made for."""
        return self.path / "home.json"

    @property
    def key_file(self) -> Path:
        """The key of the hashes that stand for user ids."""
        return self.path / "pseudonym.key"


def uses_sandbox(settings: Settings) -> bool:
    """Whether conversations come from the sandbox: no NocoDB and no folder of files is named."""
    return settings.source == "nocodb" and settings.nocodb_base_url is None


def needs_servers(settings: Settings) -> bool:
    """Whether anything has to be started for these settings."""
    return uses_sandbox(settings) or "mongodb_uri" not in settings.model_fields_set


def choose_home(settings: Settings, data: Path | None = None, root: Path | None = None) -> Home:
    """The home of a set of conversations; each set has its own, so that two never mix.

    `<root>/sample` for the sample, `<root>/<folder's name>` for a folder of conversations, `<root>/own` for
    the user's own source.

    Args:
        settings: what the environment says.
        data: folder to seed the sandbox from.
        root: where homes are; CAI_HOME when None.

    Raises:
        StackError: the folder holds no conversations, or a source of one's own is set as well.
    """
    root = (root or HomeSettings().cai_home).expanduser().resolve()
    if data is None:
        return Home(root / ("sample" if uses_sandbox(settings) else "own"))
    if not uses_sandbox(settings):
        name = "SOURCE=files" if settings.source == "files" else "NOCODB_BASE_URL"
        raise StackError(f"--data seeds the sandbox, but {name} is set; unset it or leave --data out")
    data = data.expanduser().resolve()
    missing = [n for n in ("conversations.parquet", "messages.parquet") if not (data / n).is_file()]
    if missing:
        raise StackError(f"{data} holds no {' and no '.join(missing)}; give a folder with the two files")
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in data.name).lstrip(".") or "data"
    return Home(root / (f"data-{name}" if name in ("sample", "own") else name), data)


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


def _human(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 / 10 else f"{size / 1024**2:.0f} MiB"


def check_disk(path: Path, needed: int = MIN_FREE_BYTES) -> int:
    """Free bytes on the disk of `path`, which is made when it is not there.

    Raises:
        StackError: the folder cannot be made or written, or less than `needed` bytes are free.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
    except OSError as error:
        raise StackError(
            f"cannot write in {path}: {error.strerror or error}; set CAI_HOME to a folder you can write"
        ) from error
    free = shutil.disk_usage(path).free
    if free < needed:
        raise StackError(
            f"{_human(free)} free on the disk of {path}, at least {_human(needed)} is needed; "
            "free some space or set CAI_HOME to a folder on another disk"
        )
    return free


def check_identity(home: Home, settings: Settings) -> None:
    """Make sure that a home keeps to the conversations and the days it was made for.

    The first time, what it is made for is written down.

    Raises:
        StackError: it was made for others, or what it was made for cannot be read.
    """
    wanted = {
        "data": str(home.data) if home.data else None,
        "report_timezone": settings.report_timezone,
    }
    try:
        made_for = json.loads(home.identity_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_private(home.identity_file, json.dumps(wanted, indent=1) + "\n")
        return
    except ValueError:
        raise StackError(f"{home.identity_file} is damaged; remove {home.path}") from None
    names = {"data": "conversations of", "report_timezone": "REPORT_TIMEZONE"}
    for key, value in wanted.items():
        if made_for.get(key) != value:
            raise StackError(
                f"{home.path} was made with {names[key]} {made_for.get(key)}, not {value}, "
                "and the two do not mix; set CAI_HOME to another folder, or remove this one"
            )


def pseudonym_key(home: Home) -> str:
    """The home's own key for PSEUDONYM_KEY, made once: with another key, a user would be another person."""
    try:
        return home.key_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        write_private(home.key_file, secrets.token_hex(32) + "\n")
        return home.key_file.read_text(encoding="ascii").strip()


def kept_here(home: Home, settings: Settings) -> dict[str, str]:
    """Variables that say where this home's things are kept, unless the settings say so.

    Reading them needs no server: the lake and Dagster's instance are files (or the user's own servers).
    """
    given = settings.model_fields_set
    offers: dict[str, str] = {}
    if "pseudonym_key" not in given and home.path.is_dir():
        offers["PSEUDONYM_KEY"] = pseudonym_key(home)
    if needs_servers(settings):  # else everything is set by hand, and `dagster dev` sees the same
        offers["PARQUET_BASE_DIR"] = str(home.lake)
    if uses_sandbox(settings):
        # In servers of one's own, sample data gets places of its own.
        if "mongodb_uri" in given:
            offers["MONGODB_DATABASE"] = f"{settings.mongodb_database}_{home.path.name}"
        if settings.s3_enabled:
            offers["S3_PREFIX"] = f"{settings.s3_prefix}/{home.path.name}"
    offered = {name: value for name, value in offers.items() if name.lower() not in given}
    return offered | {"DAGSTER_HOME": str(dagster_home(home))}


def dagster_home(home: Home) -> Path:
    """The folder of Dagster's instance."""
    given = HomeSettings().dagster_home
    return given.expanduser().resolve() if given is not None else home.dagster


def prepare_dagster_home(home: Home) -> None:
    """Make the instance's folder with its `dagster.yaml`; one named by DAGSTER_HOME is left as it is."""
    if HomeSettings().dagster_home is None:
        home.dagster.mkdir(parents=True, exist_ok=True)
        template = files("cai_assets").joinpath("templates/dagster.yaml").read_text(encoding="utf-8")
        (home.dagster / "dagster.yaml").write_text(template, encoding="utf-8")

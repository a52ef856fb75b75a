"""What an installed package has to bring is declared: a checkout would hide that it is not."""

import configparser
from pathlib import Path

from cai_assets_tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "cai_assets"


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_declared() -> None:
    declared = set(setup_cfg()["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for path in PACKAGE.rglob("__init__.py")
        if "__pycache__" not in path.parts
    }
    assert declared == found | {"cai_assets.dbt_like_sql"}


def test_every_file_that_is_no_python_is_declared() -> None:
    data = setup_cfg()["options.package_data"]
    for root, patterns in (
        (PACKAGE, data["cai_assets"]),
        (REPOSITORY / "dbt_like_sql", data["cai_assets.dbt_like_sql"]),
    ):
        shipped = {path for pattern in patterns.split(",") for path in root.glob(pattern.strip())}
        needed = {
            path
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".")
        }
        assert {str(Path(p).relative_to(root)) for p in needed - shipped} == set()

"""The embedded document server as a process: found, started, refused twice, stopped."""

import shutil
import sysconfig
from pathlib import Path

import pytest
from pymongo import MongoClient

from cai_assets.failures import PermanentError
from cai_assets.resources import secantus
from cai_assets.resources.secantus import SecantusProcess, running_server


def test_documents_survive_a_restart_and_the_record_follows_the_process(tmp_path: Path) -> None:
    with SecantusProcess(tmp_path) as server:
        assert running_server(tmp_path) == (server.pid, server.uri)
        with MongoClient(server.uri) as client:
            client.db.c.insert_one({"_id": "a"})
    assert running_server(tmp_path) is None
    with SecantusProcess(tmp_path) as server, MongoClient(server.uri) as client:
        assert client.db.c.find_one() == {"_id": "a"}


def test_second_server_over_the_same_directory_names_the_first(tmp_path: Path) -> None:
    with SecantusProcess(tmp_path) as first:
        with pytest.raises(PermanentError, match=rf"in use by another .*pid {first.pid}"):
            SecantusProcess(tmp_path).start()
        with MongoClient(first.uri) as client:
            assert client.admin.command("ping")["ok"] == 1


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with SecantusProcess(tmp_path / "a") as first:
        port = int(first.uri.rstrip("/").rpartition(":")[2])
        with pytest.raises(PermanentError, match=f"port {port} .* already in use"):
            SecantusProcess(tmp_path / "b", port=port).start()


def test_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which(secantus.EXECUTABLE) is None
    with pytest.raises(PermanentError, match=r"cai_assets\[embedded\].*MONGODB_URI"):
        SecantusProcess(tmp_path).start()

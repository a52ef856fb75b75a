"""The marts about people and the course of things over real conversations, against the oracle."""

import pytest

from cai_assets.schemas.tables import TABLES
from cai_assets_tests import oracle
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.lake_data import Warehouse, lake_rows
from cai_assets_tests.oracle import flow, marts, people
from cai_assets_tests.unit.test_analytics import assert_rows, check_invariants


@pytest.mark.parametrize(("name", "zone"), [("bcontrast", "Europe/Berlin"), ("star", "America/New_York")])
def test_real_conversations_equal_the_oracle(name, zone, tmp_path):
    conversations, messages = oracle.load(shared_data(name))
    warehouse = Warehouse(tmp_path, report_timezone=zone)
    warehouse.load(lake_rows(conversations, messages, zone))
    warehouse.run()
    check_invariants(warehouse)

    live = (conversations, messages, zone)
    as_of = max(c["updated_at"] for c in conversations)
    expected = {
        "agent": people.agents(*live),
        "csat": people.csat(*live),
        "session": people.sessions(*live),
        "active_users": people.active_users(*live),
        "retention": people.retention(*live),
        "user": marts.users(*live, as_of, {}, []),
        "local_hour": flow.local_hours(*live),
        "heatmap": flow.heatmap(*live),
        "funnel": flow.funnel(*live, as_of, {}),
        "handling": flow.handling(*live),
    }
    for mart, rows in expected.items():
        assert_rows(warehouse.rows("marts", mart), TABLES["marts", mart].key, rows)

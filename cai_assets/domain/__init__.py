"""Pure functions of the field: no Dagster, no network, no clock."""

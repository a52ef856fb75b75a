"""The one declaration of every table: column, type, unit, nullability, meaning. No data, no logic on data."""

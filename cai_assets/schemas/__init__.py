"""The one declaration of every table: column, type, unit, nullability, meaning. No data and no logic on data."""

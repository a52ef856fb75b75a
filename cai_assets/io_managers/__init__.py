"""How Dagster's outputs and inputs become documents and Parquet. What is stored is decided elsewhere."""

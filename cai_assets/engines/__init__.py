"""Engines that run the SQL models, and the models themselves. No Dagster, no S3, no Delta."""

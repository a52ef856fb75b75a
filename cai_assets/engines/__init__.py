"""What reads `dbt_like_sql` and what runs it. Storage and Dagster are not known here."""

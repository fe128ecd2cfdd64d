"""Logs -> artefacts, as Apache Beam jobs over blocks of columns. No TensorFlow at import time."""

import logging

# Beam warns of the BigQuery client it lacks each time it is imported; no job here reads BigQuery.
logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())

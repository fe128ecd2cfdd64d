"""Logs -> artefacts, as Apache Beam jobs over blocks of columns. No TensorFlow at import time."""

import logging

# Beam warns each time of a BigQuery client and a memory counter that it lacks; no job here needs either. While a job
# server starts it says so every second, and what a worker died of is in the error that the job raises.
NOISE = (
    "apitools not found",
    "Resource module is not available",
    "Waiting for grpc channel",
    "java.lang.RuntimeException: Error received from SDK harness",
)
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith(NOISE))

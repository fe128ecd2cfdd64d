"""Logs -> artefacts, as Apache Beam jobs over blocks of columns. No TensorFlow at import time."""

import logging

# Beam warns each time of a BigQuery client and a memory counter that it lacks; no job here needs either.
NOISE = ("apitools not found", "Resource module is not available")
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith(NOISE))

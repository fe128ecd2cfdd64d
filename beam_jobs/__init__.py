"""Logs -> artefacts, as Apache Beam jobs over blocks of columns. No TensorFlow at import time."""

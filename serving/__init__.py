"""Bundle -> top-K. No TensorFlow in this package."""

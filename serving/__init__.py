"""Bundle -> top-K. No TensorFlow in this package."""

import os

# Read by FAISS and by numpy's BLAS when they load, so it must stand before either. One request runs on one thread:
# two threads a request are slower, and `faiss.omp_set_num_threads` does not reach the threads of a pool.
os.environ.setdefault("OMP_NUM_THREADS", "1")

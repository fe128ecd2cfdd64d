"""The flow: import, prepare, train, evaluate, export, serve. One module per step."""

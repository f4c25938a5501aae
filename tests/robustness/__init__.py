"""Files damaged at random, and what the command line makes of them.

`test_robustness.py` runs a few hundred with a fixed seed. By hand, thousands:
``python -m tests.robustness --cases 10000`` (ONNX), ``--kind other`` (PyTorch files and data).
"""

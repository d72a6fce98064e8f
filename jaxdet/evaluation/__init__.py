"""Evaluation: boxes of any source against labels of any kind, by the protocol of their data set."""

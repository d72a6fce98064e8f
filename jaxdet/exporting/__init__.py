"""Detectors written for other runtimes: StableHLO and ONNX, with proof that they compute the same."""

"""Benchmarks: times of inference, training, evaluation, input pipelines and Seq-NMS."""

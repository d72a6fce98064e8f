from jaxdet.benchmarks import seqnms, table


def test_rows_are_reported_and_columns_are_those_of_all_rows(monkeypatch):
    one = seqnms.SeqNmsTiming(300, 30, 20.0, 0.5, 0.01, 1, 1)
    monkeypatch.setattr(seqnms, "measure", lambda repeats: [one])
    seen = []
    rows = table.measure(dict, report=seen.append, streamed=(), images={}, trained={}, dtypes=("float32",))
    assert rows == seen == [{"name": "seqnms 300x30", "dtype": "float32", "p50_ms": 500.0}]
    lines = table.markdown([*rows, {"name": "stream", "dtype": "bfloat16", "p99_ms": 1.25}]).splitlines()
    assert lines == [
        "| name | dtype | p50_ms | p99_ms |",
        "| --- | --- | --- | --- |",
        "| seqnms 300x30 | float32 | 500.000 |  |",
        "| stream | bfloat16 |  | 1.250 |",
    ]

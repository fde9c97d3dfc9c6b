"""How fast is Busbar, compared with what in the same run? One file for each question; README.md has method and results.

`python -m benchmarks` asks all questions. Each `bench_<question>.py` has a `QUESTION` and a coroutine
`measure(scale) -> Findings`. Start reading at bench_incidents.py.
"""

"""How far a long job has come: the one callback by which all of them tell it.

>>> def on_progress(what: str, n: int) -> None:
...     print(what, n)
>>> fetch(url, out, on_progress=on_progress)
total 2227753162
bytes 262144
"""

from collections.abc import Callable

Progress = Callable[[str, int], object]
"""Called now and then with the name of what is counted (bytes, merges, a text) and how much of it
is done by now. A job that finds out how much there will be tells that before, as "total"."""

"""Progress: the type of the callback by which long jobs report how far they are.

>>> def on_progress(what: str, n: int) -> None:
...     print(what, n)
>>> fetch(url, out, on_progress=on_progress)
total 2227753162
bytes 262144
"""

from collections.abc import Callable

Progress = Callable[[str, int], object]
"""Called now and then with the name of what is counted (bytes, merges, a text) and the amount done
so far. A job that learns the final amount reports it first, under the name "total"."""

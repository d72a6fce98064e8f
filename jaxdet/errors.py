"""The one exception that means "your input, not our code"."""


class InputError(ValueError):
    """Bad input, told in one line: what was found, what was expected, what to do.

    Commands print the line and exit with status 1; every other exception keeps its traceback. Names and
    fields of foreign files that the line quotes are shown as `printable` does.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Text in one line, as `printable`."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Text whose control characters, which a terminal would obey, are shown escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

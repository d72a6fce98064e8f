"""The one exception that means "your input, not our code"."""


class InputError(ValueError):
    """Bad input, told in one line: what was found, what was expected, what to do.

    Commands print the line and exit with status 1; every other exception keeps its traceback. Names and
    fields of foreign files that the line quotes are shown as `printable` does.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def first_line(error: Exception, most: int = 200) -> str:
    """First line of what an error says, up to `most` characters; its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]


def one_line(text: str) -> str:
    """Text in one line, as `printable`."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Text whose control characters, which a terminal would obey, are shown escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

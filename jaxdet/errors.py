"""The one exception that means "your input, not our code"."""


class InputError(ValueError):
    """Bad input, told in one line: what was found, what was expected, what to do.

    Commands print the line and exit with status 1; every other exception keeps its traceback.
    """

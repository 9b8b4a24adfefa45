"""What is the user's to mend on the engine side (``trt_build``, ``runtime``), and others' words."""


class UserError(Exception):
    """A user's mistake: one line saying what, what was got and what to do; exit code 2."""


def first_line(error: Exception) -> str:
    """The first line of what a library says; its error's name if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
